"""States of held-out rows in two dimensions, by directions that are fitted on training rows alone.

Directions that separate labels separate the rows they were fitted on in any layer with more dimensions
than rows, also where the layer knows nothing. Therefore only rows of the test split are projected.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.errors import RunError
from vsp.evaluation.study_rows import Texts
from vsp.storage.results import Results, run_beside

PCA, LDA = "PCA", "LDA"
_MOST_TRAINING = 1500  # rows that directions are fitted on
_MOST_COMPONENTS = 50  # principal components that LDA works on
_ROWS_PER_COMPONENT = 5  # at least, so that LDA does not fit noise
_CONSTANT = 1e-6  # a value that varies less, relative to its size, is taken as constant

Points = NDArray[np.float64]  # [row, 2]


@dataclass(frozen=True, eq=False)
class LayerProjection:
    """A layer in two dimensions. No method: all training rows have the same states."""

    layer: int
    points: dict[str, Points]  # method → [row, 2], of the rows of `Projections`
    shares: tuple[float, float]  # of the training rows' variance, of the first two components


@dataclass(frozen=True, eq=False)
class Projections:
    """Some held-out rows of a run in some layers."""

    id: Texts
    label: Texts
    layers: tuple[LayerProjection, ...]
    n_held_out: int  # rows that the split tests; those above are some of them
    n_training: int  # rows that the directions are fitted on
    second_is_component: bool  # two labels: LDA has one direction, and the second is that of PCA


def project(results: Results, layers: Iterable[int], n_rows: int) -> Projections:
    """Project at most `n_rows` rows of the first outer split.

    Raises RunError if the run is not in `scratch/`, or does not have the rows of the results.
    """
    run = run_beside(results.home)
    if run is None:
        raise RunError(f"run {results.name} is not in scratch/ any more")
    arrays = results.arrays("predictions", ("id", "label", "rows", "outer", "outer_fitted"))
    if "outer_fitted" not in arrays:
        raise RunError(f"{results.folder}: is of an older vsp, which did not keep training rows")
    tested = np.flatnonzero((arrays["outer"] == 0).any(axis=0))
    fitted = np.flatnonzero(arrays["outer_fitted"][0])
    shown = tested[_drawn(arrays["id"][tested], n_rows)]
    training = fitted[_drawn(arrays["id"][fitted], _MOST_TRAINING)]
    store = run.states(str(results.summary()["position"]))
    store.check()
    rows = arrays["rows"].astype(np.intp)
    label = arrays["label"]
    projected = []
    for layer in layers:
        states = store.layer(layer)
        of_layer = states[rows[training]], states[rows[shown]]
        projected.append(_project(layer, *of_layer, label[training]))
    return Projections(
        id=arrays["id"][shown],
        label=label[shown],
        layers=tuple(projected),
        n_held_out=len(tested),
        n_training=len(training),
        second_is_component=len(np.unique(label[training])) == 2,
    )


def _drawn(ids: Texts, n_rows: int) -> NDArray[np.intp]:
    """Places of at most `n_rows` ids, the same ones each time, in their order."""
    digests = [hashlib.sha256(str(one).encode(errors="surrogatepass")).digest() for one in ids]
    first = sorted(range(len(ids)), key=digests.__getitem__)[:n_rows]
    return np.array(sorted(first), np.intp)


def _project(
    layer: int, training: NDArray[Any], shown: NDArray[Any], label: Texts
) -> LayerProjection:
    from sklearn import decomposition

    fitted, held = np.asarray(training, np.float64), np.asarray(shown, np.float64)
    mean, spread = fitted.mean(axis=0), fitted.std(axis=0)
    varies = spread > _CONSTANT * np.maximum(np.abs(mean), _CONSTANT)
    if varies.sum() < 2 or len(fitted) < 3:
        return LayerProjection(layer, {}, (0.0, 0.0))
    fitted = (fitted[:, varies] - mean[varies]) / spread[varies]
    held = (held[:, varies] - mean[varies]) / spread[varies]
    most = min(_MOST_COMPONENTS, max(len(fitted) // _ROWS_PER_COMPONENT, 2), fitted.shape[1])
    components = decomposition.PCA(most, svd_solver="randomized", random_state=0).fit(fitted)
    kept = components.explained_variance_ > _CONSTANT * components.explained_variance_[0]
    of_training = components.transform(fitted)[:, kept]
    of_shown = components.transform(held)[:, kept]
    if of_shown.shape[1] < 2:
        return LayerProjection(layer, {}, (0.0, 0.0))
    points = {PCA: np.asarray(of_shown[:, :2], np.float64)}
    n_labels = len(np.unique(label))
    if 1 < n_labels < len(label) - 1:
        points[LDA] = _discriminants(of_training, of_shown, label)
    first, second = components.explained_variance_ratio_[:2].tolist()
    return LayerProjection(layer, points, (first, second))


def _discriminants(training: NDArray[Any], shown: NDArray[Any], label: Texts) -> Points:
    """The first two discriminants of the rows `shown`; of two labels, one and the first component."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    model = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto", n_components=None)
    found = np.asarray(model.fit(training, label).transform(shown), np.float64)
    if found.shape[1] < 2:
        found = np.column_stack([found[:, 0], shown[:, 0]])
    return found[:, :2]
