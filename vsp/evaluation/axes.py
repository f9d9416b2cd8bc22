"""Relation axes: do the states of all rows move the same way when subject and reference change places?

A run and its swapped twin have the same rows, ids and pictures; the twin exchanges subject and
reference, so that left becomes right. For each pair of rows, the difference of their states is
signed by the label, so that all differences of an axis such as left/right point the same way if the
model has a direction for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
from scipy.stats import t as student

from vsp.choices import LAST
from vsp.errors import RunError
from vsp.evaluation.axis_draws import Draws, LayerDraws, draw_layer, flip_p
from vsp.evaluation.axis_sums import LayerSums, axis_groups, layer_sums
from vsp.evaluation.scores import Floats
from vsp.evaluation.twins import Twins, match_twins
from vsp.storage.axes import Axes, read_axes, write_axes
from vsp.storage.run import Run
from vsp.storage.stored_settings import check_owner
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
) -> tuple[Axes, bool]:
    """Coherence of each relation axis and cosines between axes, by layer, kept in `results/RUN/`.

    Axes that are stored already are read if they are of the same states and settings. Returns
    whether they were stored. Raises RunError if the runs are not twins, if no pair of rows is left, or
    if `results/RUN/` is of another plan; ProbeError for damaged states.
    """
    settings = settings or AxesSettings()
    check_owner(run.results, run.plan)
    twins = match_twins(run, swapped, position)
    digest = _digest(run, swapped, position, twins)
    with suppress(RunError):  # a damaged file is replaced
        stored = read_axes(run.results, swapped.name, position)
        if stored is not None and stored.rows_sha256 == digest and _settings_of(stored) == settings:
            return stored, True
    axes = _compute(run, swapped, position, settings, twins, digest)
    write_axes(axes, run.results)
    return axes, False


def _digest(run: Run, swapped: Run, position: str, twins: Twins) -> str:
    """SHA-256 of the pairs of rows and of the checksums of all states."""
    digest = sha256()
    for array in (twins.row, twins.other, twins.kind, twins.group):
        digest.update(array.astype(np.int64).tobytes())
    for one in (run, swapped):
        digest.update(one.plan.identity().encode())
        number = one.number_of_states(position)
        for ledger in one.ledgers():
            digest.update(ledger.crc32_done(number).tobytes())
    return digest.hexdigest()


def _settings_of(axes: Axes) -> AxesSettings:
    return AxesSettings(axes.confidence, axes.resamples, axes.flips_limit, axes.seed)


def _compute(
    run: Run, swapped: Run, position: str, settings: AxesSettings, twins: Twins, digest: str
) -> Axes:
    draws = Draws.of(
        axis_groups(twins), twins.n_groups, settings.resamples, settings.flips, settings.seed
    )
    store, other = run.states(position), swapped.states(position)
    layers = run.plan.convention(position).layers
    sums, drawn = [], []
    with progress("axes", "layers", len(layers)) as advance:
        for entry, layer in enumerate(layers):
            of_layer = layer_sums(store.layer(entry), other.layer(entry), twins, layer)
            sums.append(_Figures.of(of_layer))
            drawn.append(draw_layer(of_layer, draws))
            advance(1)
    n_flips = len(draws.signs)
    p, p_corrected = flip_p(drawn, is_exact=n_flips == 2**twins.n_groups)
    return Axes(
        run=run.name,
        swapped=swapped.name,
        position=position,
        identity=run.plan.identity(),
        rows_sha256=digest,
        axes=twins.axes,
        layers=tuple(layers),
        n_rows=len(twins.row),
        n_groups=twins.n_groups,
        left_out=twins.left_out,
        confidence=settings.confidence,
        resamples=settings.resamples,
        flips_limit=settings.flips,
        flips=n_flips,
        seed=settings.seed,
        between_labels=np.stack([one.between_labels for one in sums]),
        n_equal=_n_equal(twins, sums),
        p=p,
        p_corrected=p_corrected,
        **_with_intervals(sums, drawn, twins, settings.confidence),
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
    cosine = np.clip(mean / (length[..., :, None] * length[..., None, :]), -1, 1)
    np.einsum("...aa->...a", cosine)[...] = length / length  # exactly 1, or NaN
    return np.asarray(cosine)


def _with_intervals(
    figures: Sequence[_Figures], drawn: Sequence[LayerDraws], twins: Twins, confidence: float
) -> dict[str, Floats]:
    """Coherence [layer, axis] and cosine [layer, axis, axis], each with its bounds."""
    n_groups = np.array([axis.n_groups for axis in twins.axes])
    fewer = np.minimum(n_groups[:, None], n_groups)
    found: dict[str, list[Floats]] = {}
    for one, draws in zip(figures, drawn, strict=True):
        cosine = _cosines(one.mean)
        of_layer = {
            "coherence": (one.mean.diagonal(), _diagonals(draws.resampled), n_groups),
            "cosine": (cosine, _cosines(draws.resampled), fewer),
        }
        for name, (value, resampled, n) in of_layer.items():
            low, high = interval(value, resampled, n, confidence)
            for end, bound in (("", value), ("_low", low), ("_high", high)):
                found.setdefault(name + end, []).append(bound)
    arrays = {name: np.stack(values) for name, values in found.items()}
    for name in ("cosine_low", "cosine_high"):  # that of an axis with itself has no error
        known = np.isfinite(_diagonals(arrays["cosine"]))
        np.einsum("laa->la", arrays[name])[...] = np.where(known, 1.0, np.nan)
    return arrays


def _diagonals(values: Floats) -> Floats:
    return np.diagonal(values, axis1=1, axis2=2)


def interval(
    value: Floats, draws: Floats, n_groups: NDArray[np.intp], confidence: float
) -> tuple[Floats, Floats]:
    """Bounds of figures from -1 to 1; `draws` [resample, …] are their values in resamples of groups.

    The bounds are quantiles of the draws, wider by the ratio of Student's t to the normal
    distribution: with few groups, plain quantiles cover the true value too rarely. An undefined draw
    can be anything, so it widens both sides.
    """
    tail = (1 - confidence) / 2
    is_known = ~np.isnan(draws)
    low = np.quantile(np.where(is_known, draws, -1.0), tail, axis=0)
    high = np.quantile(np.where(is_known, draws, 1.0), 1 - tail, axis=0)
    wider = student.ppf(1 - tail, n_groups - 1) / norm.ppf(1 - tail)
    wider = wider * np.sqrt(n_groups / (n_groups - 1))
    return (
        np.clip(value - np.maximum(value - low, 0) * wider, -1, 1),
        np.clip(value + np.maximum(high - value, 0) * wider, -1, 1),
    )


def _n_equal(twins: Twins, figures: Sequence[_Figures]) -> NDArray[np.int64]:
    """Pairs with equal states [layer, axis]."""
    n_pairs = np.array([axis.n_first + axis.n_second for axis in twins.axes])
    return np.stack([n_pairs - one.n for one in figures]).astype(np.int64)
