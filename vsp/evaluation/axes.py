"""Relation axes: do the states of all rows move the same way when subject and reference change places?

A run and its swapped twin have the same rows, ids and pictures; the twin exchanges subject and
reference, so that left becomes right. For each pair of rows, the difference of their states is
signed by the label, so that all differences of an axis such as left/right point the same way if the
model has a direction for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vsp.choices import LAST
from vsp.evaluation.axis_draws import Draws, LayerDraws, draw_layer, flip_p
from vsp.evaluation.axis_sums import LayerSums, axis_groups, layer_sums
from vsp.evaluation.scores import Floats
from vsp.evaluation.twins import Twins, match_twins
from vsp.storage.axes import Axes
from vsp.storage.run import Run
from vsp.utils.progress import progress


@dataclass(frozen=True, slots=True)
class AxesSettings:
    """Confidence level and number of random draws."""

    confidence: float = 0.95
    resamples: int = 2000  # of the group bootstrap
    flips: int = 1999  # random sign vectors; if there are not more than that, all are used
    seed: int = 0


def relation_axes(
    run: Run, swapped: Run, position: str = LAST, settings: AxesSettings | None = None
) -> Axes:
    """Coherence of each relation axis and cosines between axes, by layer.

    Raises RunError if the runs are not twins or no pair of rows is left, ProbeError for damaged
    states.
    """
    settings = settings or AxesSettings()
    twins = match_twins(run, swapped, position)
    draws = Draws.of(
        axis_groups(twins), twins.n_groups, settings.resamples, settings.flips, settings.seed
    )
    store, other = run.states(position), swapped.states(position)
    layers = run.plan.convention(position).layers
    sums, drawn = [], []
    with progress("axes", "layers", len(layers)) as advance:
        for entry in range(len(layers)):
            of_layer = layer_sums(store.layer(entry), other.layer(entry), twins, layers[entry])
            sums.append(_Figures.of(of_layer))
            drawn.append(draw_layer(of_layer, draws))
            advance(1)
    n_flips = len(draws.signs)
    p, p_corrected = flip_p(drawn, is_exact=n_flips == 2**twins.n_groups)
    return Axes(
        run=run.name,
        swapped=swapped.name,
        position=position,
        identity=(run.plan.identity(), swapped.plan.identity()),
        axes=twins.axes,
        layers=tuple(layers),
        n_rows=len(twins.row),
        n_groups=twins.n_groups,
        left_out=twins.left_out,
        confidence=settings.confidence,
        resamples=settings.resamples,
        flips=n_flips,
        seed=settings.seed,
        between_labels=np.stack([one.between_labels for one in sums]),
        n_equal=_n_equal(twins, sums),
        p=p,
        p_corrected=p_corrected,
        **_with_intervals(sums, drawn, settings.confidence),
    )


@dataclass(frozen=True, slots=True)
class _Figures:
    """The figures of a layer."""

    mean: Floats  # [axis, axis], mean cosine of rows of two axes in different groups
    between_labels: Floats  # [axis]
    n: Floats  # [axis], rows with a difference

    @classmethod
    def of(cls, sums: LayerSums) -> _Figures:
        n_axes = sums.by_group.shape[1]
        products, pairs = sums.products, sums.n_pairs
        first, second = np.arange(0, 2 * n_axes, 2), np.arange(1, 2 * n_axes, 2)
        return cls(
            _ratio(_of_axes(products), _of_axes(pairs)),
            _ratio(products[first, second], pairs[first, second]),
            sums.n.sum(axis=0).reshape(n_axes, 2).sum(axis=1),
        )


def _of_axes(values: Floats) -> Floats:
    """Sums over both labels of each axis: [kind, kind] → [axis, axis]."""
    n_axes = len(values) // 2
    return np.asarray(values.reshape(n_axes, 2, n_axes, 2).sum(axis=(1, 3)))


def _ratio(values: Floats, n: Floats) -> Floats:
    return np.divide(values, n, out=np.full_like(values, np.nan), where=n > 0)


def _cosines(mean: Floats) -> Floats:
    """Cosines of the mean directions of axes, from mean cosines of rows [..., axis, axis].

    The mean cosine of an axis with itself estimates the squared length of its mean direction
    without the noise of single rows. NaN where it is not positive: there is no direction.
    """
    squared = np.diagonal(mean, axis1=-2, axis2=-1)
    length = np.sqrt(np.where(squared > 0, squared, np.nan))
    return np.asarray(np.clip(mean / (length[..., :, None] * length[..., None, :]), -1, 1))


def _with_intervals(
    figures: Sequence[_Figures], drawn: Sequence[LayerDraws], confidence: float
) -> dict[str, Floats]:
    """Coherence [layer, axis] and cosine [layer, axis, axis], each with its bounds."""
    mean = np.stack([one.mean for one in figures])
    diagonal = np.diagonal(mean, axis1=1, axis2=2)
    values = {"coherence": diagonal.copy(), "cosine": _cosines(mean)}
    bounds: dict[str, list[Floats]] = {f"{name}_{end}": [] for name in values for end in _ENDS}
    for one in drawn:
        resampled = one.resampled
        of_layer = {
            "coherence": np.diagonal(resampled, axis1=1, axis2=2),
            "cosine": _cosines(resampled),
        }
        for name, draws in of_layer.items():
            for end, bound in zip(_ENDS, _bounds(draws, confidence), strict=True):
                bounds[f"{name}_{end}"].append(bound)
    found = {name: np.stack(bound) for name, bound in bounds.items()}
    for name, value in values.items():
        for end in _ENDS:
            found[f"{name}_{end}"][np.isnan(value)] = np.nan
    return {**values, **found}


_ENDS = ("low", "high")


def _bounds(draws: Floats, confidence: float) -> tuple[Floats, Floats]:
    """Quantiles over resamples. An undefined draw can be anything, so it widens both sides."""
    tail = (1 - confidence) / 2
    is_known = ~np.isnan(draws)
    low = np.quantile(np.where(is_known, draws, -1.0), tail, axis=0)
    high = np.quantile(np.where(is_known, draws, 1.0), 1 - tail, axis=0)
    return np.asarray(low), np.asarray(high)


def _n_equal(twins: Twins, figures: Sequence[_Figures]) -> Floats:
    """Pairs with equal states [layer, axis]."""
    n_pairs = np.array([axis.n_first + axis.n_second for axis in twins.axes])
    return np.stack([n_pairs - one.n for one in figures]).astype(np.int64)
