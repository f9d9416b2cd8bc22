"""The page and the JSON of `vsp answer --generate`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table

from vsp.reporting.formatting import format_figure, shorten_path
from vsp.utils.terminal import folded_text, text_line
from vsp.utils.text import MAX_LISTED, format_count, shorten

if TYPE_CHECKING:
    from vsp.extraction.free_answers import FreeAnswer, FreeAnswers

_LONGEST = 160  # characters of a text on the page; the file has the whole text
_NOTES = (
    "exact: the text is the option. prefix: it begins with the option. contained: the option is in "
    "it, as whole words.",
    "accuracy: share of these rows whose option is the row's label.",
)


def free_answers_page(found: FreeAnswers, path: Path) -> RenderableType:
    """The page, for 80 columns: rows by the kind of their match, then texts without an option."""
    n = len(found.answers)
    head = f"run {found.run}: texts of {format_count(n, 'row')}"
    if n < found.n_rows:
        head += f", one drawn from each of {n:,} equal parts of its {found.n_rows:,} rows"
    parts: list[RenderableType] = [folded_text(head), text_line(), _counts_table(found)]
    parts += [text_line(), *map(folded_text, _NOTES)]
    if found.compared:
        parts.append(
            folded_text(
                f"stored answers: {found.n_agreeing:,} of {format_count(len(found.compared), 'text')} "
                "with an option name the most likely one."
            )
        )
    if found.n_cut:
        parts.append(
            folded_text(
                f"{format_count(found.n_cut, 'text')} of {found.n_tokens} tokens may be cut off; "
                "--tokens N sets the limit."
            )
        )
    failed = [answer for answer in found.answers if answer.how == "failed"]
    parts += _listed("no option", found.unmatched) + _listed("failed", failed)
    parts += [text_line(), folded_text(f"wrote {shorten_path(str(path))}")]
    return Group(*parts)


def free_answers_json(found: FreeAnswers, path: Path) -> dict[str, Any]:
    """The figures as `vsp answer --json` prints them."""
    return {
        "run": found.run,
        "planned_rows": found.n_rows,
        "rows": len(found.answers),
        "tokens": found.n_tokens,
        "counts": found.counts,
        "accuracy": _accuracy(found.matched),
        "compared": len(found.compared),
        "agreeing": found.n_agreeing,
        "cut": found.n_cut,
        "unmatched": [
            {
                "row": one.row,
                "id": one.id,
                "label": one.label,
                "text": one.text,
                "reason": one.reason,
            }
            for one in found.unmatched
        ],
        "file": str(path),
    }


def _counts_table(found: FreeAnswers) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("text", no_wrap=True)
    for column in ("rows", "share", "accuracy"):
        table.add_column(column, justify="right", no_wrap=True)
    kinds: dict[str, list[FreeAnswer]] = {
        how: [answer for answer in found.matched if answer.how == how]
        for how in ("exact", "prefix", "contained")
    }
    kinds["any match"] = found.matched
    for name, answers in kinds.items():
        share = len(answers) / len(found.answers)
        accuracy = format_figure(_accuracy(answers))
        table.add_row(name, f"{len(answers):,}", format_figure(share), accuracy)
    counts = found.counts
    for name, n in (("no option", counts["none"]), ("failed", counts["failed"])):
        table.add_row(name, f"{n:,}", format_figure(n / len(found.answers)), "")
    return table


def _accuracy(answers: Sequence[FreeAnswer]) -> float | None:
    return sum(answer.right for answer in answers) / len(answers) if answers else None


def _listed(title: str, answers: Sequence[FreeAnswer]) -> list[RenderableType]:
    """Rows with their text, or with the reason why they failed."""
    if not answers:
        return []
    lines: list[RenderableType] = [text_line(), text_line(title, style="bold")]
    for one in answers[:MAX_LISTED]:
        said = one.reason if one.text is None else f'"{shorten(one.text, _LONGEST)}"'
        several = " (names several options)" if one.reason == "ambiguous" else ""
        lines.append(folded_text(f"row {one.row}, {one.label}: {said}{several}"))
    more = len(answers) - MAX_LISTED
    if more > 0:
        lines.append(text_line(f"… and {more:,} more"))
    return lines
