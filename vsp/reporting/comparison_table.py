"""The comparison of runs as a table for a paper, and all its figures as CSV."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from vsp.reporting.answer import LEVEL
from vsp.reporting.escaping import csv_text_line
from vsp.reporting.table_files import Cell, Column, Estimate, PaperTable, Row

if TYPE_CHECKING:
    from vsp.evaluation.compare import Difference, Pair
    from vsp.storage.results import Results

_CSV = (
    "first", "other", "first_layer", "other_layer", "peak", "statistic", "first_score",
    "other_score", "difference", "low", "high", "p", "p_corrected", "n_rows", "n_groups",
)  # fmt: skip


def comparison_table(
    pairs: Sequence[Pair], runs: Sequence[tuple[str, Results]], title: str | None = None
) -> PaperTable:
    """The layers of each pair, then chance; the better run is bold where corrected p < LEVEL.

    `runs` are names and results, the first run first, in the order of `pairs`.
    """
    (first, of_first), *others = runs
    several = len(pairs) > 1
    columns = [Column("other run")] if several else []
    columns += [
        Column("layer"),
        Column(first, 3),
        Column("other" if several else others[0][0], 3),
        Column("difference", 3, signed=True),
        Column("corrected p", 4),
    ]
    parts = []
    for pair, (name, results) in zip(pairs, others, strict=True):
        front = (name,) if several else ()
        rows = [_row(front, pair, one) for one in pair.layers]
        chances = (Estimate(run.summary()["chance"]) for run in (of_first, results))
        parts += [tuple(rows), (Row((*front, "chance", *chances)),)]
    return PaperTable(
        _caption(pairs, runs, title), f"{first}-compared", tuple(columns), tuple(parts)
    )


def _row(front: tuple[str, ...], pair: Pair, one: Difference) -> Row:
    layer = f"{one.first_layer}:{one.other_layer}" if pair.by_depth else str(one.first_layer)
    cells: tuple[Cell, ...] = (
        *front,
        layer,
        Estimate(one.first_score),
        Estimate(one.other_score),
        Estimate(one.difference, one.low, one.high),
        Estimate(one.p_corrected),
    )
    better = len(front) + (2 if one.difference > 0 else 1)
    return Row(cells, bold=(better,) if one.p_corrected < LEVEL else ())


def _caption(pairs: Sequence[Pair], runs: Sequence[tuple[str, Results]], title: str | None) -> str:
    pair, statistic = pairs[0], pairs[0].statistic
    names = [name for name, _ in runs]
    if title is None:
        listed = ", ".join(names[1:])
        title = f"{statistic[:1].upper()}{statistic[1:]} by layer: {names[0]} and {listed}"
    words = [
        *([title] if title else []),
        f"Difference: that of the other run minus {names[0]}, on the same test rows, with a "
        f"{pair.confidence:.0%} interval",
        f"Bold: the better run, where p corrected for all layers is under {LEVEL:g}",
    ]
    if any(one.by_depth for one in pairs):
        words.append(
            f"2:4 is layer 2 of {names[0]} and layer 4 of the other run, at about the same depth"
        )
    return f"{'. '.join(words)}."


def comparison_csv(pairs: Sequence[Pair], names: Sequence[str]) -> Iterator[bytes]:
    """A line for each layer of each pair, and one for the peaks, whose p is not corrected."""
    yield csv_text_line(*_CSV)
    for pair, other in zip(pairs, names[1:], strict=True):
        for one in (*pair.layers, pair.peak):
            is_peak = one is pair.peak
            yield csv_text_line(
                names[0], other, one.first_layer, one.other_layer, int(is_peak), pair.statistic,
                one.first_score, one.other_score, one.difference, one.low, one.high, one.p,
                None if is_peak else one.p_corrected, pair.n_rows, pair.n_groups,
            )  # fmt: skip
