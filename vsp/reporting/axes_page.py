"""The page, the table and the JSON of `vsp axes`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Group, RenderableType

from vsp.choices import position_words
from vsp.errors import ConfigError
from vsp.reporting.answer import LEVEL
from vsp.reporting.axes_words import (
    axes_cautions,
    axes_sentence,
    axis_name,
    axis_pairs,
    cosines_of,
    entanglement_sentence,
    equal_words,
    figure,
    interval_words,
    is_coherent,
    left_out_words,
    pair_name,
    usual_entry,
)
from vsp.reporting.columns import Column, FittingTable, figure_cells
from vsp.reporting.escaping import csv_text_line
from vsp.reporting.table_files import Column as PaperColumn
from vsp.reporting.table_files import Estimate, PaperTable, Row
from vsp.storage.axes import axes_json
from vsp.utils.terminal import fact_table, folded_text, text_line
from vsp.utils.text import format_count, format_ranges

if TYPE_CHECKING:
    from vsp.storage.axes import Axes

_COLUMNS = (
    "run", "swapped", "position", "layer", "figure", "axis", "other_axis", "value", "low", "high",
    "between_labels", "p", "p_corrected", "n_rows", "n_equal",
)  # fmt: skip


def axes_page(axes: Axes, layer: int | None = None) -> RenderableType:
    """The answer, the rows that count, coherence by layer, and cosines between axes in one layer."""
    entry = entry_of(axes, layer)
    parts: list[RenderableType] = [folded_text(axes_sentence(axes))]
    entanglement = entanglement_sentence(axes)
    parts += [folded_text(entanglement)] if entanglement else []
    parts += [text_line(), fact_table(_facts(axes)), text_line()]
    parts += [_layer_table(axes, entry), text_line()]
    if len(axes.axes) > 1:
        parts += [*_cosine_parts(axes, entry, layer is None), text_line()]
    parts += [folded_text(f"Note: {note}.") for note in axes_cautions(axes)]
    parts.append(folded_text(_explanation(axes)))
    return Group(*parts)


def entry_of(axes: Axes, layer: int | None) -> int:
    """The entry of a layer, by default of the usual one. Raises ConfigError if there is none."""
    if layer is None:
        return usual_entry(axes)
    if layer not in axes.layers:
        raise ConfigError(
            f"layer {layer}: is not recorded; choose from {format_ranges(axes.layers)}"
        )
    return axes.layers.index(layer)


def _facts(axes: Axes) -> dict[str, str | list[str]]:
    facts: dict[str, str | list[str]] = {
        "run": axes.run,
        "swapped": axes.swapped,
        "position": position_words(axes.position),
        "pairs": f"{format_count(axes.n_rows, 'row')} in {format_count(axes.n_groups, 'group')}",
        "axes": [
            f"{axis_name(axis)}: {axis.n_first:,} and {axis.n_second:,} rows in "
            f"{format_count(axis.n_groups, 'group')}"
            for axis in axes.axes
        ],
    }
    if axes.left_out:
        facts["left out"] = left_out_words(axes)
    equal = equal_words(axes)
    if equal:
        facts["equal"] = equal
    return facts


def _layer_table(axes: Axes, chosen: int) -> FittingTable:
    """A row for each layer; on a narrow terminal, intervals go first, then cosines."""
    n, pairs = len(axes.axes), axis_pairs(axes)
    level, entries = f"{axes.confidence:.0%}", range(len(axes.layers))
    columns = [Column("layer", figure_cells([str(layer) for layer in axes.layers]))]
    for i, axis in enumerate(axes.axes):
        name, values = axis_name(axis), axes.coherence[:, i]
        stars = ["*" if is_coherent(axes, e, i) else " " for e in entries]
        cells = [figure(value) + star for value, star in zip(values, stars, strict=True)]
        bounds = _bounds(axes.coherence_low[:, i], axes.coherence_high[:, i])
        columns += [
            Column(name, figure_cells(cells), rank=i + 1),
            Column(f"{level} of {name}", figure_cells(bounds), rank=100 + i),
        ]
    cosine = np.stack([cosines_of(axes, entry)[0] for entry in entries])
    for k, (i, j) in enumerate(pairs):
        name = pair_name(axes, i, j)
        of_pair = figure_cells(list(map(figure, cosine[:, i, j])))
        columns.append(Column(name, of_pair, rank=n + k + 1))
    styles = ["bold green" if entry == chosen else "" for entry in entries]
    return FittingTable(columns, styles)


def _bounds(low: Any, high: Any) -> list[str]:
    return [interval_words(*pair) for pair in zip(low, high, strict=True)]


def _cosine_parts(axes: Axes, entry: int, is_usual: bool) -> list[RenderableType]:
    """The cosine of each pair of axes in one layer, with its interval."""
    cosine, low, high = cosines_of(axes, entry)
    pairs = axis_pairs(axes)
    columns = [
        Column("directions", figure_cells([pair_name(axes, *pair) for pair in pairs])),
        Column("cosine", figure_cells([figure(cosine[pair]) for pair in pairs])),
        Column(
            f"{axes.confidence:.0%}",
            figure_cells([interval_words(low[pair], high[pair]) for pair in pairs]),
        ),
    ]
    which = ", the one with the highest mean coherence" if is_usual else ""
    heading = f"Cosines between axes in layer {axes.layers[entry]}{which}:"
    return [folded_text(heading), FittingTable(columns, [""] * len(pairs))]


def _explanation(axes: Axes) -> str:
    pairs = ""
    if len(axes.axes) > 1:
        i, j = axis_pairs(axes)[0]
        pairs = (
            f" {pair_name(axes, i, j)}: cosine of the two mean directions, without the noise of single "
            "rows; – where one of the axes is not coherent."
        )
    return (
        "Coherence: mean cosine of the differences run − swapped of two rows of different groups, signed "
        f"by the label; 0 without a common direction, 1 if all agree.{pairs} Brackets: "
        f"{axes.confidence:.0%} intervals, {axes.resamples:,} resamples of groups. *: p < {LEVEL:g}, "
        f"{axes.flips:,} sign flips of groups, corrected over all layers and axes."
    )


def axes_page_json(axes: Axes) -> dict[str, Any]:
    """The answer and all figures."""
    return {
        "answer": axes_sentence(axes),
        "entanglement": entanglement_sentence(axes) or None,
        "notes": axes_cautions(axes),
        **axes_json(axes),
    }


def axes_csv(axes: Axes) -> Iterator[bytes]:
    """A line for the coherence of each layer and axis, and for each cosine of two axes."""
    yield csv_text_line(*_COLUMNS)
    head = axes.run, axes.swapped, axes.position
    for entry, layer in enumerate(axes.layers):
        for i, axis in enumerate(axes.axes):
            figures = _cells(
                axes.coherence, axes.coherence_low, axes.coherence_high, axes.between_labels, axes.p,
                axes.p_corrected, place=(entry, i),
            )  # fmt: skip
            counts = axis.n_first + axis.n_second, int(axes.n_equal[entry, i])
            yield csv_text_line(*head, layer, "coherence", axis.name, None, *figures, *counts)
        for i, j in axis_pairs(axes):
            names = axes.axes[i].name, axes.axes[j].name
            figures = _cells(axes.cosine, axes.cosine_low, axes.cosine_high, place=(entry, i, j))
            yield csv_text_line(*head, layer, "cosine", *names, *figures, *[None] * 5)


def _cells(*arrays: Any, place: tuple[int, ...]) -> list[float | None]:
    values = [float(array[place]) for array in arrays]
    return [None if np.isnan(value) else value for value in values]


def axes_table(axes: Axes, title: str | None = None) -> PaperTable:
    """Coherence of each axis and cosines of all pairs, by layer."""
    pairs = axis_pairs(axes)
    highest = [int(np.nan_to_num(values, nan=-2.0).argmax()) for values in axes.coherence.T]
    rows = []
    for entry, layer in enumerate(axes.layers):
        coherence = axes.coherence, axes.coherence_low, axes.coherence_high
        cosine = cosines_of(axes, entry)
        cells = [Estimate(*_cells(*coherence, place=(entry, i))) for i in range(len(axes.axes))]
        cells += [Estimate(*_cells(*cosine, place=pair)) for pair in pairs]
        bold = tuple(i + 1 for i, best in enumerate(highest) if best == entry)
        rows.append(Row((str(layer), *cells), bold=bold))
    title = f"Relation axes of {axes.run}" if title is None else title
    words = [
        *([title] if title else []),
        "Coherence: mean cosine of the signed differences between the run and its swapped twin",
        *(["With a dot: cosine of the mean directions of two axes"] if pairs else []),
        f"Brackets: {axes.confidence:.0%} intervals",
        "Bold: the highest of a column",
    ]
    columns = [PaperColumn("layer"), *(PaperColumn(axis_name(axis), 3) for axis in axes.axes)]
    columns += [PaperColumn(pair_name(axes, i, j), 3) for i, j in pairs]
    return PaperTable(f"{'. '.join(words)}.", f"axes-{axes.run}", tuple(columns), (tuple(rows),))
