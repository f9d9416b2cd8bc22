"""What a run found: scores as rows, probes and predictions as arrays; nothing pickled.

`results/RUN/` holds `summary.json` (what was done with which rows), `scores.jsonl` (a row for
each layer), `probes.npz` (classes [class]; layers [layer]; mean and scale [layer, hidden]; coef
[layer, class, hidden]; intercept [layer, class]) and `predictions.npz` (rows [test row]; label
[test row]; predicted [layer, test row]).

The summary holds the SHA-256 of the other files and of itself. What does not agree with it, be it
edited, damaged or half replaced, is not read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from vsp.errors import RunError
from vsp.files import written_together

FORMAT = 2  # of the folder
_SUMMARY, _SCORES = "summary.json", "scores.jsonl"
_AGAIN = "run `vsp probe` again"


@dataclass(frozen=True, slots=True)
class LayerScore:
    """How well one layer's probe reads the label of rows it was not fitted on."""

    layer: int
    accuracy: float
    macro_f1: float
    chance: float  # accuracy of always saying the commonest training label
    cv_accuracy: float  # mean over folds inside the training rows; chooses the best layer
    per_class: dict[str, float]  # share of each label's test rows that are predicted
    n_train: int
    n_test: int
    n_fits: int  # binary problems solved, folds included
    n_not_converged: int


@dataclass(frozen=True, slots=True)
class Results:
    """The folder of a run's results."""

    folder: Path

    def write(
        self,
        summary: Mapping[str, Any],
        scores: Sequence[LayerScore],
        probes: Mapping[str, NDArray[Any]],
        predictions: Mapping[str, NDArray[Any]],
    ) -> None:
        """Replace all files, the summary last, once all of them are on the disk beside the old.

        Raises DiskError where they cannot be written; the old results are then whole.
        """
        names = (_SCORES, "probes.npz", "predictions.npz", _SUMMARY)
        with written_together([self.folder / name for name in names]) as files:
            for score in scores:
                files[0].write(json.dumps(asdict(score)).encode() + b"\n")
            np.savez(files[1], allow_pickle=False, **probes)
            np.savez(files[2], allow_pickle=False, **predictions)
            digests = {name: _digest(file) for name, file in zip(names[:3], files[:3], strict=True)}
            text = json.dumps(_sealed(summary, digests), indent=1, ensure_ascii=False)
            files[3].write(text.encode() + b"\n")

    def summary(self) -> dict[str, Any]:
        """Raises RunError if the run was not probed yet, or the file is not as it was written."""
        return self._summary()[0]

    def scores(self) -> list[LayerScore]:
        """Raises RunError as `summary` does."""
        return self.read()[1]

    def read(self) -> tuple[dict[str, Any], list[LayerScore]]:
        """Summary and scores of one and the same write. Raises RunError as `summary` does."""
        summary, digests = self._summary()
        with self._vouched_for(_SCORES, digests) as file:
            return summary, [LayerScore(**json.loads(line)) for line in file]

    def arrays(self, name: str) -> dict[str, NDArray[Any]]:
        """`probes` or `predictions`. Raises RunError as `summary` does."""
        _, digests = self._summary()
        with (
            self._vouched_for(f"{name}.npz", digests) as file,
            np.load(file, allow_pickle=False) as arrays,
        ):
            return dict(arrays)

    def _summary(self) -> tuple[dict[str, Any], dict[str, str]]:
        """The summary, and the SHA-256 of the other files."""
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
        if seal != _seal(values, digests):
            raise RunError(f"{path}: was changed since it was written; {_AGAIN}")
        return values, digests

    @contextmanager
    def _vouched_for(self, name: str, digests: Mapping[str, str]) -> Iterator[IO[bytes]]:
        """A file of which the summary holds the digest, open to be read."""
        path = self.folder / name
        try:
            with path.open("rb") as file:
                if _digest(file) != digests[name]:
                    raise RunError(
                        f"{path}: is not the file that {_SUMMARY} goes with; the results are a "
                        f"mixture of two writes, or were changed: {_AGAIN}"
                    )
                yield file
        except FileNotFoundError:
            raise RunError(f"{path}: no such file; {_AGAIN}") from None
        except OSError as error:
            raise _unreadable(path, error) from None


def best_layer(scores: Sequence[LayerScore]) -> LayerScore:
    """The layer that cross-validation inside the training rows prefers; the lowest of equals.

    Its accuracy is then an estimate on rows that had no part in choosing it.
    """
    return max(scores, key=lambda score: (score.cv_accuracy, -score.layer))


def _sealed(summary: Mapping[str, Any], digests: Mapping[str, str]) -> dict[str, Any]:
    """What is written: the summary with all digests, its own among them."""
    # As it will be read, or a tuple, say, would be sealed as what it is no more.
    values = json.loads(json.dumps(summary))
    sha256 = {**digests, _SUMMARY: _seal(values, digests)}
    return {"format": FORMAT, **values, "sha256": sha256}


def _seal(values: Any, digests: Any) -> str:
    return hashlib.sha256(json.dumps([values, digests], sort_keys=True).encode()).hexdigest()


def _digest(file: IO[bytes]) -> str:
    """SHA-256 of a whole file, which is then at its beginning."""
    digest = hashlib.sha256()
    file.seek(0)
    while block := file.read(1 << 20):
        digest.update(block)
    file.seek(0)
    return digest.hexdigest()


def _unreadable(path: Path, error: OSError) -> RunError:
    return RunError(f"{path}: cannot be read ({error.strerror}); mend that, or {_AGAIN}")
