"""What a run found: scores as rows, probes and predictions as arrays; nothing pickled.

`results/RUN/` holds `summary.json` (what was done with which rows), `scores.jsonl` (a row for
each layer), `probes.npz` (classes [class]; layers [layer]; mean and scale [layer, hidden]; coef
[layer, class, hidden]; intercept [layer, class]) and `predictions.npz` (rows [test row]; label
[test row]; predicted [layer, test row]).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.errors import RunError
from vsp.files import write_json, write_text, written_aside


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
        """Write each file aside and rename it; the summary comes last and vouches for the rest."""
        (self.folder / "summary.json").unlink(missing_ok=True)
        lines = "".join(json.dumps(asdict(score)) + "\n" for score in scores)
        write_text(self.folder / "scores.jsonl", lines)
        for name, arrays in (("probes", probes), ("predictions", predictions)):
            with written_aside(self.folder / f"{name}.npz") as file:
                np.savez(file, allow_pickle=False, **arrays)
        write_json(self.folder / "summary.json", dict(summary))

    def summary(self) -> dict[str, Any]:
        """Raises RunError if the run was not probed yet."""
        try:
            summary: dict[str, Any] = json.loads((self.folder / "summary.json").read_bytes())
        except FileNotFoundError:
            raise RunError(f"{self.folder}: holds no results; run `vsp probe` first") from None
        return summary

    def scores(self) -> list[LayerScore]:
        lines = (self.folder / "scores.jsonl").read_text().splitlines()
        return [LayerScore(**json.loads(line)) for line in lines]

    def arrays(self, name: str) -> dict[str, NDArray[Any]]:
        """`probes` or `predictions`. Raises RunError if the file is not there."""
        path = self.folder / f"{name}.npz"
        try:
            with np.load(path, allow_pickle=False) as file:
                return dict(file)
        except FileNotFoundError:
            raise RunError(f"{path}: no such file; run `vsp probe` first") from None


def best_layer(scores: Sequence[LayerScore]) -> LayerScore:
    """The layer that cross-validation inside the training rows prefers; the lowest of equals.

    Its accuracy is then an estimate on rows that had no part in choosing it.
    """
    return max(scores, key=lambda score: (score.cv_accuracy, -score.layer))
