"""The scores of saved probes on other states as a table for a paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vsp.reporting.table_files import Cell, Column, Estimate, PaperTable, Row
from vsp.reporting.transfer_page import shown_layer, target_name, trained_name

if TYPE_CHECKING:
    from vsp.evaluation.transfer import Transfer


def transfer_table(
    transfers: Sequence[Transfer], layer: int | None = None, title: str | None = None
) -> PaperTable:
    """The layers of a single pair, or the matrix of several runs and targets, then chance.

    `layer`: the one in the matrix; None: the one that each run selects.
    """
    if len(transfers) == 1:
        return _layers(transfers[0], title)
    return _matrix(transfers, layer, title)


def _layers(one: Transfer, title: str | None) -> PaperTable:
    rows = []
    for figures in one.layers:
        difference = Estimate(figures.difference, figures.difference_low, figures.difference_high)
        cells = (
            str(figures.layer),
            Estimate(figures.score, figures.low, figures.high),
            Estimate(figures.own),
            difference,
        )
        rows.append(Row(cells, bold=(0, 1) if figures.layer == one.selected else ()))
    if title is None:
        title = (
            f"{_begun(one.statistic)} of the probes of {trained_name(one)} on {target_name(one)}"
        )
    words = [
        *([title] if title else []),
        f"Brackets: {one.confidence:.0%} intervals",
        "Own: on the run's own test rows; difference: the score minus it",
        "Bold: the layer that the run's training rows select",
    ]
    return PaperTable(
        caption=f"{'. '.join(words)}.",
        label=f"{one.trained}-on-{one.target}",
        columns=(
            Column("layer"),
            Column(one.statistic, 3),
            Column("own", 3),
            Column("difference", 3, signed=True),
        ),
        parts=(tuple(rows), (Row(("chance", Estimate(one.chance))),)),
    )


def _matrix(transfers: Sequence[Transfer], layer: int | None, title: str | None) -> PaperTable:
    trained = list(dict.fromkeys(map(trained_name, transfers)))
    targets = list(dict.fromkeys(map(target_name, transfers)))
    cells: dict[tuple[str, str], Estimate] = {}
    for one in transfers:
        figures = shown_layer(one, layer)
        if figures is not None:
            found = Estimate(figures.score, figures.low, figures.high)
            cells[trained_name(one), target_name(one)] = found
    highest = {target: _highest(trained, target, cells) for target in targets}
    rows = []
    for run in trained:
        of_run: list[Cell] = [cells.get((run, target), Estimate(None)) for target in targets]
        bold = (1 + place for place, target in enumerate(targets) if run in highest[target])
        rows.append(Row((run, *of_run), bold=tuple(bold)))
    chance = {target_name(one): one.chance for one in transfers}
    which = "the layer that each run's training rows select" if layer is None else f"layer {layer}"
    if title is None:
        statistics = ", ".join(dict.fromkeys(one.statistic for one in transfers))
        title = f"{_begun(statistics)} at {which}"
    words = [
        *([title] if title else []),
        "Rows: the run whose probes are judged; columns: the states they are judged on",
        f"Brackets: {transfers[0].confidence:.0%} intervals",
        *(["Bold: the highest of a column"] if len(trained) > 1 else []),
    ]
    return PaperTable(
        caption=f"{'. '.join(words)}.",
        label="transfer",
        columns=(Column("trained on"), *(Column(target, 3) for target in targets)),
        parts=(
            tuple(rows),
            (Row(("chance", *(Estimate(chance[target]) for target in targets))),),
        ),
    )


def _highest(
    trained: Sequence[str], target: str, cells: dict[tuple[str, str], Estimate]
) -> list[str]:
    """The runs with the highest score on a target; none if there is one run only."""
    scores = {run: cells[run, target].value for run in trained if (run, target) in cells}
    known = [score for score in scores.values() if score is not None]
    if len(trained) < 2 or not known:
        return []
    return [run for run, score in scores.items() if score == max(known)]


def _begun(text: str) -> str:
    return text[:1].upper() + text[1:]
