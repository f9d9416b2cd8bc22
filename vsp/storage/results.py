"""Results of a run with one setting of the probe: scores, predictions, estimates and probes.

`results/RUN/SETTING/`, such as `results/RUN/logistic/`, holds

    summary.json       settings, numbers of rows, and the figures of the whole run; `says` has those
                       of the model's own answers, or is null, and `no_answers` says why
    scores.jsonl       a LayerScore for each layer
    predictions.npz    what the probes predict for each row
    estimates.npz      the values behind the figures, by layer
    probes/LLL.npz     the arrays of layer LLL's probe
    probes/LLL-folds.npz  with folds: those of the probe of each outer split, as SPLIT.NAME
    probes/card.json   the meaning of these arrays, how to rebuild a probe, and the rows it was
                       fitted on

Before format 7, these files lay in `results/RUN/`, and in `results/RUN/positions/NAME/` for states at
another position. Such results are read, and no longer written.

docs/results.md lists every array of predictions.npz and estimates.npz.

The summary holds the SHA-256 of the other files and of itself. A file that was edited, damaged or
replaced does not match it and is not read. Nothing is pickled.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from vsp.choices import DEFAULT_PROBE
from vsp.errors import ProbeError, RunError
from vsp.storage.layer_score import LayerScore, is_consistent, score_type
from vsp.storage.npz import (
    MAX_ARRAYS,
    ArraysError,
    Blocks,
    check_directory,
    read_arrays,
    write_arrays,
)
from vsp.storage.plan import Plan
from vsp.storage.run import Run
from vsp.storage.sealed_summary import (
    FORMATS_WITHOUT_SETTING,
    READABLE,
    SUMMARY,
    completed,
    described,
    encode,
    identity_of,
    json_object,
    sealed,
    to_json,
)
from vsp.storage.summary import Summary
from vsp.utils.files import disk_errors, json_matches, sha256, write_together
from vsp.utils.reading import MAX_JSON, open_regular, read_json, unreadable

REPORT = "report.txt"  # the page of `vsp report --save`, in the folder of a setting
HTML_REPORT = "report.html"  # the same for a browser
FREE_ANSWERS = "free_answers.jsonl"  # of `vsp answer --generate`, in the folder of the run
_POSITIONS = "positions"
_SCORES = "scores.jsonl"
_PREDICTIONS, _ESTIMATES, _CARD = "predictions.npz", "estimates.npz", "probes/card.json"
# Bytes of the other files; 1000 classes take about 3 MB per layer in the scores.
_MAX_BYTES = {_SCORES: 1 << 28, _CARD: MAX_JSON}


@dataclass(frozen=True, slots=True)
class Results:
    """The folder of a run's results with one setting of the probe."""

    folder: Path
    home: Path  # `results/RUN/`, which has a folder for each setting

    @classmethod
    def of_format(cls, folder: Path, of_format: Any) -> Results:
        """The results in this folder, whose summary has this format."""
        where = folder.absolute()
        if where.parent.name == _POSITIONS:
            return cls(folder, folder.parent.parent)
        return cls(folder, folder if of_format in FORMATS_WITHOUT_SETTING else where.parent)

    def write(
        self,
        summary: Mapping[str, Any],
        scores: Sequence[LayerScore],
        predictions: Mapping[str, NDArray[Any] | Blocks],
        estimates: Mapping[str, NDArray[Any] | Blocks],
        probes: Iterable[Mapping[str, NDArray[Any]]],
        fold_probes: Iterable[Mapping[str, NDArray[Any]]] | None = None,
    ) -> None:
        """Replace all files, the summary last, after all new ones are on disk.

        `probes` and `fold_probes` have one item per score, in the same order; `summary["probe"]` is
        their card. An item of `fold_probes` has the arrays of all outer splits; None without folds.
        Numbers that are not finite are written as null. Raises DiskError if a file cannot be
        written; the old results then stay complete.
        """
        layers = [score.layer for score in scores]
        of_probes = {_probe_file: probes} | (
            {} if fold_probes is None else {_fold_file: fold_probes}
        )
        names = [_SCORES, _PREDICTIONS, _ESTIMATES]
        names += [*(file(layer) for file in of_probes for layer in layers), _CARD, SUMMARY]
        with write_together([self.folder / name for name in names]) as opened:
            files = dict(zip(names, opened, strict=True))
            for score in scores:
                files[_SCORES].write(json.dumps(to_json(asdict(score))).encode() + b"\n")
            write_arrays(files[_PREDICTIONS], predictions)
            write_arrays(files[_ESTIMATES], estimates)
            for file, items in of_probes.items():
                for layer, arrays in zip(layers, items, strict=True):
                    write_arrays(files[file(layer)], arrays)
            card = {"layers": layers, **summary["probe"]}
            files[_CARD].write(encode(to_json(card)))
            digests = {name: sha256(files[name]) for name in names[:-1]}
            files[SUMMARY].write(encode(sealed(to_json(summary), digests)))
        self._remove_other_probes(names)

    @property
    def name(self) -> str:
        """The name of the run that the results are of: that of the folder."""
        return self.home.absolute().name

    @property
    def setting(self) -> str:
        """The setting of the probe: the name of the folder; empty for results before format 7."""
        older = self.folder == self.home or self.folder.absolute().parent.name == _POSITIONS
        return "" if older else self.folder.absolute().name

    def check_owner(self, plan: Plan) -> None:
        """Raise RunError if the folder holds results of another plan, or of an unknown one."""
        path = self.folder / SUMMARY
        try:
            values = read_json(path)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise RunError(f"{path}: {unreadable(error)}; {self._move_it()}") from None
        except (ValueError, RecursionError):
            values = None
        self._require_owner(values, plan)

    def _require_owner(self, values: Any, plan: Plan) -> None:
        found = identity_of(values)
        if found is None:
            raise RunError(
                f"{self.folder / SUMMARY}: does not say which plan its results are of; "
                f"{self._move_it()}"
            )
        if found != plan.identity():
            raise self._of_another_plan(values)

    def summary(self, types: type[BaseModel] | None = None) -> dict[str, Any]:
        """Read the summary.

        Raises RunError if there are no results, the file was changed, the run beside the results has
        another plan, or a value is not of its type in `types`.
        """
        summary = self._summary()[0]
        self._check_types(summary, types)
        return summary

    def read(self) -> tuple[dict[str, Any], list[LayerScore]]:
        """Summary and scores of the same write, checked for their types.

        Raises RunError as `summary` does, and for a value of another type than vsp writes.
        """
        summary, digests = self._summary()
        self._check_types(summary, Summary)
        with self._open_checked(_SCORES, digests) as file:
            try:
                scores = [score_type().validate_json(line) for line in file]
            except ValidationError as error:
                raise self._not_results(_SCORES, error) from None
        layers = [score.layer for score in scores]
        fits = len(set(layers)) == len(layers) and summary["best_layer"] in layers
        if not fits or not all(map(is_consistent, scores)):
            raise self._not_results(_SCORES)
        return summary, scores

    def arrays(self, name: str, only: Sequence[str] | None = None) -> dict[str, NDArray[Any]]:
        """The arrays of `predictions` or `estimates`; with `only`, those among them that exist.

        Raises RunError as `summary` does.
        """
        return self._arrays(f"{name}.npz", self._summary()[1], only)

    def probe(self, layer: int) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """The card of the probes, and the arrays of this layer's probe.

        Raises RunError as `summary` does, ProbeError if there is no such layer.
        """
        card, digests = self._card(layer)
        return card, self._arrays(_probe_file(layer), digests)

    def fold_probes(self, layer: int) -> list[dict[str, NDArray[Any]]]:
        """The arrays of this layer's probe of each outer split.

        Empty without folds, and for results of vsp before format 6. Raises RunError and ProbeError
        as `probe` does.
        """
        _, digests = self._card(layer)
        if _fold_file(layer) not in digests:
            return []
        probes: dict[int, dict[str, NDArray[Any]]] = {}
        for name, array in self._arrays(_fold_file(layer), digests).items():
            split, _, of_probe = name.partition(".")
            if not (split.isascii() and split.isdigit()):
                raise self._not_results(_fold_file(layer))
            probes.setdefault(int(split), {})[of_probe] = array
        if sorted(probes) != list(range(len(probes))):
            raise self._not_results(_fold_file(layer))
        return [probes[split] for split in range(len(probes))]

    def _card(self, layer: int) -> tuple[dict[str, Any], dict[str, str]]:
        """The card of the probes and all digests. Raises ProbeError if there is no such layer."""
        _, digests = self._summary()
        with self._open_checked(_CARD, digests) as file:
            card = json_object(file.read(MAX_JSON))
        if card is None or not isinstance(card.get("layers"), list):
            raise self._not_results(_CARD)
        if _probe_file(layer) not in digests:
            raise ProbeError(
                f"{self.folder}: holds no probe of layer {layer}; it has layers "
                f"{', '.join(map(str, card['layers']))}"
            )
        return card, digests

    def _arrays(
        self, name: str, digests: Mapping[str, str], only: Sequence[str] | None = None
    ) -> dict[str, NDArray[Any]]:
        with self._open_checked(name, digests) as file:
            return read_arrays(file, only)

    def _summary(self) -> tuple[dict[str, Any], dict[str, str]]:
        """The summary, and the SHA-256 of each other file by name."""
        path = self.folder / SUMMARY
        try:
            values = read_json(path)
        except (FileNotFoundError, NotADirectoryError):
            raise RunError(f"{self.folder}: holds no results; {self._probe('first')}") from None
        except OSError as error:
            raise RunError(f"{path}: {unreadable(error)}; {self._move_it()}") from None
        except (ValueError, RecursionError):
            raise RunError(f"{path}: is damaged; {self._move_it()}") from None
        file_format = values.pop("format", None) if isinstance(values, dict) else None
        if file_format not in READABLE:
            raise RunError(f"{path}: is not of this version of vsp; {self._move_it()}")
        digests = values.pop("sha256", None)
        seal = digests.pop(SUMMARY, None) if isinstance(digests, dict) else None
        if not json_matches([values, digests], seal):
            raise RunError(f"{path}: was changed since it was written; {self._again}")
        run = run_beside(self.home)
        if run is not None:
            self._require_owner(values, run.plan)
        return (completed(values) if file_format in FORMATS_WITHOUT_SETTING else values), digests

    def _check_types(self, summary: Mapping[str, Any], types: type[BaseModel] | None) -> None:
        if types is not None:
            try:
                types.model_validate(summary)
            except ValidationError as error:
                raise self._not_results(SUMMARY, error) from None

    def _probe(self, when: str) -> str:
        default = self.setting in ("", DEFAULT_PROBE)
        options = "" if default else f", with the options of {self.setting}"
        return f"run `vsp probe --run {self.name}` {when}{options}"

    @property
    def _again(self) -> str:
        return self._probe("again")

    def _move_it(self) -> str:
        return f"move {self.folder} to another place and {self._again}"

    def _of_another_plan(self, values: Mapping[str, Any]) -> RunError:
        return RunError(
            f"{self.home}: holds results of another plan ({described(values)}), which `vsp probe` "
            "does not replace; move that folder to another place, or rename the run, then probe"
        )

    def _not_results(self, name: str, error: ValidationError | None = None) -> RunError:
        where = ""
        if error is not None:
            first = error.errors(include_url=False, include_input=False)[0]
            key = ".".join(map(str, first["loc"]))
            where = f" ({key}: {first['msg'][:1].lower()}{first['msg'][1:]})" if key else ""
        # `vsp probe` does not replace a summary that it cannot read.
        advice = self._move_it() if name == SUMMARY else self._again
        return RunError(f"{self.folder / name}: does not hold what vsp writes{where}; {advice}")

    @contextmanager
    def _open_checked(self, name: str, digests: Mapping[str, str]) -> Iterator[IO[bytes]]:
        """Open a file for reading, after a check of its SHA-256 against the summary's."""
        path = self.folder / name
        try:
            with open_regular(path, _MAX_BYTES.get(name, MAX_ARRAYS)) as file:
                if name.endswith(".npz"):
                    check_directory(file)  # first, since a digest reads the whole file
                if sha256(file) != digests.get(name):
                    raise RunError(
                        f"{path}: is not the file that {SUMMARY} goes with; the results are a "
                        f"mixture of two writes, or were changed: {self._again}"
                    )
                yield file
        except ArraysError as error:
            raise RunError(f"{path}: {error}; {self._again}") from None
        except (FileNotFoundError, NotADirectoryError):
            raise RunError(f"{path}: no such file; {self._again}") from None
        except OSError as error:
            raise RunError(f"{path}: {unreadable(error)}; mend that, or {self._again}") from None

    def _remove_other_probes(self, names: Sequence[str]) -> None:
        """Remove probe files of an earlier write: other layers, and the older format."""
        kept = {self.folder / name for name in names}
        with disk_errors(self.folder):
            for path in {*self.folder.glob("probes/*.npz"), self.folder / "probes.npz"} - kept:
                path.unlink(missing_ok=True)


def run_beside(home: Path) -> Run | None:
    """The run in `scratch/` beside `results/RUN/`; None if there is none that can be read."""
    folder = home.absolute()
    if folder.parent.name != "results":
        return None
    with suppress(RunError):  # results can be read without their run
        return Run.open(folder.parent.parent / "scratch" / folder.name)
    return None


def _probe_file(layer: int) -> str:
    return f"probes/{layer:03d}.npz"


def _fold_file(layer: int) -> str:
    return f"probes/{layer:03d}-folds.npz"
