"""The results of a run: scores as JSON lines, predictions, estimates and probes as arrays.

`results/RUN/` holds

    summary.json       settings, numbers of rows, and the figures of the whole run
    scores.jsonl       a LayerScore for each layer
    predictions.npz    rows (in the store), id, group, label [row]; layers [layer]; classes [class];
                       outer [repeat, row], the split that tested it, or -1; predicted [layer,
                       repeat, row], an index into `classes`, or the number; probability [layer,
                       repeat, row, class]; base [repeat, row] where a number is predicted: the
                       squared distance from the training rows' mean
    estimates.npz      the values behind the figures, by layer: inner [layer, outer, strength],
                       null [layer, permutation], control, portions, gaps …
    probes/LLL.npz     the arrays of layer LLL's probe
    probes/card.json   the meaning of these arrays, and how to rebuild a probe

The summary holds the SHA-256 of the other files and of itself. A file that was edited, damaged or
replaced does not match it and is not read. Nothing is pickled.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from vsp.errors import ProbeError, RunError
from vsp.storage.run import Run, find_run
from vsp.utils.files import disk_errors, json_matches, json_sha256, sha256, write_together

FORMAT = 3  # of the folder
_SUMMARY, _SCORES = "summary.json", "scores.jsonl"
_PREDICTIONS, _ESTIMATES, _CARD = "predictions.npz", "estimates.npz", "probes/card.json"
_AGAIN = "run `vsp probe` again"


@dataclass(frozen=True, slots=True)
class LayerScore:
    """How well the probe of one layer predicts the labels of rows that it was not fitted on.

    None: not defined for this target or probe, or switched off.
    """

    layer: int
    score: float  # accuracy, or R² where the target is a number
    low: float | None  # bounds of the interval
    high: float | None
    chance: float  # score of always predicting the most frequent training label, or the mean
    balanced_accuracy: float | None
    macro_f1: float | None
    recall: dict[str, float] | None  # by class
    precision: dict[str, float] | None
    confusion: list[list[int]] | None  # [true class, predicted class], summed over repeats
    ece: float | None  # calibration error of the probability of the predicted class
    brier: float | None
    rmse: float | None
    strength: float | None  # C or alpha of the saved probe
    strengths: list[float]  # chosen in each outer split
    at_edge: int  # outer splits whose strength is the smallest or largest of the grid
    control: float | None  # score on control labels, drawn per prompt
    selectivity: float | None
    by_strength: dict[str, dict[str, float | None]]  # strength → score, control, selectivity
    p: float | None
    p_corrected: float | None  # over layers
    code_bits: float | None  # online code length
    compression: float | None  # uniform code length / online code length
    curve: list[list[float]]  # [rows fitted on, score]
    # Score minus that of layer 0, and score minus that of the best layer.
    over_embedding: dict[str, float | None] | None  # difference, low, high
    below_best: dict[str, float | None] | None  # difference, low, high
    n_fits: int
    n_uncertified: int  # fits whose gap is not within the tolerance
    max_gap: float | None  # relative duality gap
    n_train: int
    n_test: int


@dataclass(frozen=True, slots=True)
class Blocks:
    """An array given in pieces along its first axis, so that it is never completely in memory."""

    shape: tuple[int, ...]
    dtype: Any
    pieces: Iterable[NDArray[Any]]  # shape[0] of them, each of shape[1:]


@dataclass(frozen=True, slots=True)
class Results:
    """The folder of a run's results."""

    folder: Path

    def write(
        self,
        summary: Mapping[str, Any],
        scores: Sequence[LayerScore],
        predictions: Mapping[str, NDArray[Any] | Blocks],
        estimates: Mapping[str, NDArray[Any] | Blocks],
        probes: Iterable[Mapping[str, NDArray[Any]]],
    ) -> None:
        """Replace all files, the summary last, after all new ones are on disk.

        `probes` has one item per score, in the same order; `summary["probe"]` is their card.
        Numbers that are not finite are written as null. Raises DiskError if a file cannot be
        written; the old results then stay complete.
        """
        layers = [score.layer for score in scores]
        names = [_SCORES, _PREDICTIONS, _ESTIMATES, *map(_probe_file, layers), _CARD, _SUMMARY]
        with write_together([self.folder / name for name in names]) as opened:
            files = dict(zip(names, opened, strict=True))
            for score in scores:
                files[_SCORES].write(json.dumps(_to_json(asdict(score))).encode() + b"\n")
            _write_npz(files[_PREDICTIONS], predictions)
            _write_npz(files[_ESTIMATES], estimates)
            for layer, arrays in zip(layers, probes, strict=True):
                _write_npz(files[_probe_file(layer)], arrays)
            card = {"layers": layers, **summary["probe"]}
            files[_CARD].write(_encode(_to_json(card)))
            digests = {name: sha256(files[name]) for name in names[:-1]}
            files[_SUMMARY].write(_encode(_sealed(_to_json(summary), digests)))
        self._remove_other_probes(names)

    def summary(self) -> dict[str, Any]:
        """Read the summary. Raises RunError if there are no results, or the file was changed."""
        return self._summary()[0]

    def read(self) -> tuple[dict[str, Any], list[LayerScore]]:
        """Summary and scores of the same write. Raises RunError as `summary` does."""
        summary, digests = self._summary()
        with self._open_checked(_SCORES, digests) as file:
            return summary, [LayerScore(**json.loads(line)) for line in file]

    def arrays(self, name: str, only: Sequence[str] | None = None) -> dict[str, NDArray[Any]]:
        """The arrays of `predictions` or `estimates`; with `only`, those among them that exist.

        Raises RunError as `summary` does.
        """
        return self._arrays(f"{name}.npz", self._summary()[1], only)

    def probe(self, layer: int) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """The card of the probes, and the arrays of this layer's probe.

        Raises RunError as `summary` does, ProbeError if there is no such layer.
        """
        _, digests = self._summary()
        with self._open_checked(_CARD, digests) as file:
            card = json.loads(file.read())
        if _probe_file(layer) not in digests:
            raise ProbeError(
                f"{self.folder}: holds no probe of layer {layer}; it has layers "
                f"{', '.join(map(str, card['layers']))}"
            )
        return card, self._arrays(_probe_file(layer), digests)

    def _arrays(
        self, name: str, digests: Mapping[str, str], only: Sequence[str] | None = None
    ) -> dict[str, NDArray[Any]]:
        with (
            self._open_checked(name, digests) as file,
            np.load(file, allow_pickle=False) as arrays,
        ):
            return {key: arrays[key] for key in arrays if only is None or key in only}

    def _summary(self) -> tuple[dict[str, Any], dict[str, str]]:
        """The summary, and the SHA-256 of each other file by name."""
        path = self.folder / _SUMMARY
        try:
            values = json.loads(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            raise RunError(f"{self.folder}: holds no results; run `vsp probe` first") from None
        except OSError as error:
            raise _unreadable(path, error) from None
        except (ValueError, RecursionError):
            raise RunError(f"{path}: is damaged; {_AGAIN}") from None
        if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
            raise RunError(f"{path}: is not of this version of vsp; {_AGAIN}")
        digests = values.pop("sha256", None)
        seal = digests.pop(_SUMMARY, None) if isinstance(digests, dict) else None
        if not json_matches([values, digests], seal):
            raise RunError(f"{path}: was changed since it was written; {_AGAIN}")
        return values, digests

    @contextmanager
    def _open_checked(self, name: str, digests: Mapping[str, str]) -> Iterator[IO[bytes]]:
        """Open a file for reading, after a check of its SHA-256 against the summary's."""
        path = self.folder / name
        try:
            with path.open("rb") as file:
                if sha256(file) != digests[name]:
                    raise RunError(
                        f"{path}: is not the file that {_SUMMARY} goes with; the results are a "
                        f"mixture of two writes, or were changed: {_AGAIN}"
                    )
                yield file
        except (FileNotFoundError, NotADirectoryError):
            raise RunError(f"{path}: no such file; {_AGAIN}") from None
        except OSError as error:
            raise _unreadable(path, error) from None

    def _remove_other_probes(self, names: Sequence[str]) -> None:
        """Remove probe files of an earlier write: other layers, and the older format."""
        kept = {self.folder / name for name in names}
        with disk_errors(self.folder):
            for path in {*self.folder.glob("probes/*.npz"), self.folder / "probes.npz"} - kept:
                path.unlink(missing_ok=True)


def find_results(name: str | None, work: Path) -> Results:
    """Results by name or path, by default the newest.

    A name is a folder in `results/`; a path (it has a slash) is a folder of results or of a run.
    The default is the results of the newest run in `scratch/`; without any run, as on a computer
    to which results were copied, it is the newest folder in `results/`.

    Raises RunError if no name is given and there is neither a run nor results.
    """
    if name is None:
        return _newest_results(work)
    if "/" not in name:
        return Results(work / "results" / name)
    with suppress(OSError):  # such a path is refused when the results are read
        if (Path(name) / "plan.json").exists():
            return Results(Run.open(Path(name)).results)
    return Results(Path(name))


def _newest_results(work: Path) -> Results:
    if any((work / "scratch").glob("*/plan.json")):
        return Results(find_run(None, work).results)
    summaries = list((work / "results").glob(f"*/{_SUMMARY}"))
    if not summaries:
        raise RunError(
            f"{work / 'results'}: holds no results; name a folder of results with --run, or make "
            "them with `vsp plan`, `vsp extract` and `vsp probe`"
        )
    return Results(max(summaries, key=lambda path: path.stat().st_mtime_ns).parent)


def _probe_file(layer: int) -> str:
    return f"probes/{layer:03d}.npz"


def _write_npz(file: IO[bytes], arrays: Mapping[str, NDArray[Any] | Blocks]) -> None:
    """Write as numpy.savez does, but equal arrays give equal bytes."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                if isinstance(array, Blocks):
                    _write_blocks(entry, name, array)
                else:
                    np.lib.format.write_array(entry, np.asanyarray(array), allow_pickle=False)


def _write_blocks(file: IO[bytes], name: str, array: Blocks) -> None:
    dtype, n_pieces = np.dtype(array.dtype), 0
    header = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": array.shape,
    }
    np.lib.format.write_array_header_1_0(file, header)
    for piece in array.pieces:
        if piece.shape != array.shape[1:]:
            raise ValueError(f"{name}: piece {n_pieces} is {piece.shape} of {array.shape}")
        file.write(np.ascontiguousarray(piece, dtype=dtype).reshape(-1).view(np.uint8).data)
        n_pieces += 1
    if n_pieces != array.shape[0]:
        raise ValueError(f"{name}: {n_pieces} pieces of {array.shape}")


def _to_json(value: Any) -> Any:
    """Convert to types of JSON; numbers that are not finite become None."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _to_json(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_to_json(one) for one in value]
    return value


def _encode(values: Any) -> bytes:
    return json.dumps(values, indent=1, ensure_ascii=False).encode() + b"\n"


def _sealed(values: Mapping[str, Any], digests: Mapping[str, str]) -> dict[str, Any]:
    """The contents of summary.json: the summary and all digests, including its own."""
    sha256 = {**digests, _SUMMARY: json_sha256([values, digests])}
    return {"format": FORMAT, **values, "sha256": sha256}


def _unreadable(path: Path, error: OSError) -> RunError:
    return RunError(f"{path}: cannot be read ({error.strerror}); mend that, or {_AGAIN}")
