"""The part of `vsp report --by FIELD`: accuracy by stratum, and the gaps between strata."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType

from vsp.escaping import one_line
from vsp.reporting.columns import Column, FittingTable, figure_cells
from vsp.reporting.formatting import format_figure
from vsp.utils.terminal import folded_text, text_line
from vsp.utils.text import format_count, shorten

if TYPE_CHECKING:
    from vsp.evaluation.strata import Share, Strata

_NAME = 24  # characters of a stratum's name in a table
_LISTED = 10  # small strata that are named


def strata_page(strata: Strata) -> RenderableType:
    """The strata as tables with what they mean."""
    parts: list[RenderableType] = [
        text_line(f"Accuracy by {shorten(one_line(strata.field), 60)}", style="bold")
    ]
    if any(one.knows for one in strata.strata):
        parts += [_stratum_table(strata), text_line()]
    if strata.gaps:
        parts += [_gap_table(strata), text_line()]
    return Group(*parts, *(folded_text(note) for note in strata_notes(strata)))


def strata_notes(strata: Strata) -> list[str]:
    """What the strata are, and which rows and strata have no figures."""
    notes = [f"{strata.field}: {strata.meaning}."] if strata.meaning else []
    notes.append(
        "knows: accuracy of the probe, at the layer selected on training rows"
        + ("; says: accuracy of the model's own answers." if strata.says_rows else ".")
    )
    if strata.gaps:
        more = "" if len(strata.gaps) == 1 else ", corrected over the gaps by Holm's method"
        notes.append(
            f"gap: first minus other, with its {strata.confidence:.0%} interval by resampled groups; p: "
            f"sign flips of groups{more}."
        )
    if strata.n_without:
        notes.append(
            f"{strata.n_without:,} of {format_count(strata.n_rows, 'tested row')} are in no stratum: "
            + ("names, boxes or training rows suggest no label." if strata.meaning else
               f"their records have no {strata.field}.")
        )  # fmt: skip
    if strata.n_smaller:
        notes.append(f"{format_count(strata.n_smaller, 'row')} of smaller strata are not shown.")
    if strata.too_few:
        named = [f"{_name(one.name)} ({format_count(one.n_rows, 'row')})" for one in strata.too_few]
        more = f", and {len(named) - _LISTED} more" if len(named) > _LISTED else ""
        notes.append(f"Too few rows for figures: {', '.join(named[:_LISTED])}{more}.")
    if len(strata.strata) == 1:
        notes.append("All rows are in one stratum, so there is no gap.")
    if not strata.strata:
        notes.append("No tested row is in a stratum.")
    return notes


def _name(text: str) -> str:
    return shorten(one_line(text), _NAME)


def _stratum_table(strata: Strata) -> RenderableType:
    shown = [one for one in strata.strata if one.knows is not None]
    head = f"{strata.confidence:.0%}"
    columns = [
        Column("stratum", [text_line(_name(one.name)) for one in shown]),
        Column("rows", figure_cells([f"{one.n_rows:,}" for one in shown])),
        Column("groups", figure_cells([f"{one.n_groups:,}" for one in shown]), 4),
        *_score_columns("knows", [one.knows for one in shown], head, 2, ""),
    ]
    if strata.says_rows:
        columns += _score_columns("says", [one.says for one in shown], head, 3, "")
    return FittingTable(columns, [""] * len(shown))


def _gap_table(strata: Strata) -> RenderableType:
    gaps, head = strata.gaps, f"{strata.confidence:.0%}"
    columns = [
        Column("first", [text_line(_name(one.first)) for one in gaps]),
        Column("other", [text_line(_name(one.other) or "others") for one in gaps], 5),
        *_gap_columns("knows", [one.knows for one in gaps], head, 0),
    ]
    if strata.says_rows:
        columns += _gap_columns("says", [one.says for one in gaps], head, 3)
    return FittingTable(columns, [""] * len(gaps))


def _score_columns(
    name: str, shares: Sequence[Share | None], head: str, rank: int, sign: str
) -> list[Column]:
    return [
        Column(name, figure_cells([_value(one, sign) for one in shares])),
        Column(head, figure_cells([_interval(one, sign) for one in shares]), rank),
    ]


def _gap_columns(name: str, shares: Sequence[Share | None], head: str, rank: int) -> list[Column]:
    values, interval = _score_columns(f"{name} gap", shares, head, rank, "+")
    p = [format_figure(None if one is None else one.p_corrected, 4) for one in shares]
    return [values, interval, Column("p", figure_cells(p), rank + 1)]


def _value(one: Share | None, sign: str) -> str:
    return "–" if one is None else f"{one.value:{sign}.3f}"


def _interval(one: Share | None, sign: str) -> str:
    return "–" if one is None else f"[{one.low:{sign}.3f}, {one.high:{sign}.3f}]"
