"""Sentences about relation axes, for the page in the terminal and the one in the browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vsp.reporting.answer import LEVEL
from vsp.reporting.formatting import format_layers
from vsp.utils.text import format_count

if TYPE_CHECKING:
    from vsp.storage.axes import Axes, Axis, Floats

VERTICAL, DISTANCE = "above", "in_front_of"  # first labels of the two axes that pictures entangle
_HALF = 0.5  # share of the coherence that rows of different labels must have


def axis_name(axis: Axis) -> str:
    """ "left/right"."""
    return f"{_short(axis.first)}/{_short(axis.second)}"


def pair_name(axes: Axes, i: int, j: int) -> str:
    """ "above · in front": the two labels whose directions are compared."""
    return f"{_short(axes.axes[i].first)} · {_short(axes.axes[j].first)}"


def _short(label: str) -> str:
    return label.replace("_", " ").removesuffix(" of")


def axis_pairs(axes: Axes) -> list[tuple[int, int]]:
    """All pairs of axes; vertical and distance come first."""
    named = vertical_and_distance(axes)
    pairs = [(i, j) for i in range(len(axes.axes)) for j in range(i + 1, len(axes.axes))]
    return sorted(pairs, key=lambda pair: pair != named)


def vertical_and_distance(axes: Axes) -> tuple[int, int] | None:
    """The places of the axes above/below and in front/behind; None unless there are both."""
    found = axes.index(VERTICAL), axes.index(DISTANCE)
    return None if found[0] is None or found[1] is None else (found[0], found[1])


def is_coherent(axes: Axes, entry: int, axis: int) -> bool:
    """Whether the corrected p of a coherence is under LEVEL."""
    return bool(axes.p_corrected[entry, axis] < LEVEL)  # False for NaN


def cosines_of(axes: Axes, entry: int) -> tuple[Floats, Floats, Floats]:
    """Cosines in one layer and their bounds [axis, axis]; NaN where an axis has no direction."""
    has = np.array([is_coherent(axes, entry, i) for i in range(len(axes.axes))])
    both = has[:, None] & has
    value, low, high = (
        np.where(both, values[entry], np.nan)
        for values in (axes.cosine, axes.cosine_low, axes.cosine_high)
    )
    return value, low, high


def coherent_entries(axes: Axes, axis: int) -> list[int]:
    return [entry for entry in range(len(axes.layers)) if is_coherent(axes, entry, axis)]


def highest_entry(axes: Axes, axis: int) -> int | None:
    """The entry of the layer with the highest coherence of an axis; None if none is defined."""
    values = axes.coherence[:, axis]
    return None if np.isnan(values).all() else int(np.nanargmax(values))


def usual_entry(axes: Axes) -> int:
    """The entry of the layer whose cosines are shown: the one with the highest mean coherence."""
    mean = np.where(np.isnan(axes.coherence), 0.0, axes.coherence).mean(axis=1)
    return int(mean.argmax())


def axes_sentence(axes: Axes) -> str:
    """The answer: which axes have a direction, in which layers."""
    found: list[str] = []
    without: list[str] = []
    for i, axis in enumerate(axes.axes):
        entries, highest = coherent_entries(axes, i), highest_entry(axes, i)
        if not entries or highest is None:
            without.append(axis_name(axis))
            continue
        at = "layer" if len(entries) == 1 else "layers"
        found.append(
            f"{axis_name(axis)} in {at} {format_layers(axes.layers[entry] for entry in entries)} "
            f"({'up to' if found else 'coherence up to'} {axes.coherence[highest, i]:.3f})"
        )
    level = f" at corrected p < {LEVEL:g}"
    if not found:
        return (
            f"The states have no common direction for {_listed(without, 'or')}{level}: exchanging "
            "subject and reference moves them differently in every row."
        )
    none = f", but not for {_listed(without, 'or')}" if without else ""
    return f"The states have a direction for {_listed(found, 'and')}{none}{level}."


def entanglement_sentence(axes: Axes) -> str:
    """How far vertical and distance share a direction; empty if there are not both axes."""
    pair = vertical_and_distance(axes)
    if pair is None:
        return ""
    i, j = pair
    names = f"{axis_name(axes.axes[i])} and {axis_name(axes.axes[j])}"
    both = [e for e in coherent_entries(axes, i) if is_coherent(axes, e, j)]
    if not both:
        return f"No layer has a direction for both {names}, so their cosine says nothing."
    entry = max(both, key=lambda e: min(axes.coherence[e, i], axes.coherence[e, j]))
    low, high = axes.cosine_low[entry, i, j], axes.cosine_high[entry, i, j]
    said = (
        f"In layer {axes.layers[entry]}, where both are most coherent, the cosine of {names} is "
        f"{figure(axes.cosine[entry, i, j])} [{figure(low)}, {figure(high)}]"
    )
    if low <= 0 <= high:
        return f"{said}: not clearly different from 0, so they are not shown to be entangled."
    other = "in front" if low > 0 else "behind"
    return f"{said}: they are entangled, above goes with {other}."


def axes_cautions(axes: Axes) -> list[str]:
    """Reasons to read the figures with care."""
    notes = []
    for i, axis in enumerate(axes.axes):
        entries = coherent_entries(axes, i)
        if not entries:
            continue
        entry = max(entries, key=lambda e: axes.coherence[e, i])
        value, between = axes.coherence[entry, i], axes.between_labels[entry, i]
        counts = f"{axis.n_first:,} {_short(axis.first)}, {axis.n_second:,} {_short(axis.second)}"
        if np.isnan(between):
            notes.append(
                f"{axis_name(axis)} ({counts}): no rows of both labels in different groups, so its "
                "direction may be that of the exchange itself, not of the relation"
            )
        elif between < _HALF * value:
            notes.append(
                f"{axis_name(axis)} ({counts}): in layer {axes.layers[entry]}, coherence is "
                f"{value:.3f}, but between rows of the two labels only {figure(between)}: part of the "
                "direction is that of the exchange itself, not of the relation"
            )
    return notes


def left_out_words(axes: Axes) -> list[str]:
    """Rows that do not count, and why."""
    return [f"{format_count(n, 'row')}: {why}" for why, n in axes.left_out.items()]


def equal_words(axes: Axes) -> str:
    """In which layers all pairs have equal states; empty if in none."""
    n_pairs = [axis.n_first + axis.n_second for axis in axes.axes]
    layers = [
        layer for layer, n in zip(axes.layers, axes.n_equal, strict=True) if (n == n_pairs).all()
    ]
    if not layers:
        return ""
    at = "layer" if len(layers) == 1 else "layers"
    return f"{at} {format_layers(layers)}: equal in both runs, so without a direction"


def figure(value: float, digits: int = 3) -> str:
    """A number, a dash for an undefined one; never "-0.000"."""
    return "–" if np.isnan(value) else f"{round(float(value), digits) + 0.0:.{digits}f}"


def interval_words(low: float, high: float) -> str:
    return "–" if np.isnan(low) or np.isnan(high) else f"[{figure(low)}, {figure(high)}]"


def _listed(words: list[str], last: str) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"
