"""The table of `vsp compare`: another run against the first, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from vsp.utils.terminal import fact_table, folded_text

if TYPE_CHECKING:
    from vsp.evaluation.compare import Difference, Pair

_HALF = 7  # of them for the largest difference


def comparison_table(pairs: Sequence[Pair]) -> RenderableType:
    """Another run against the first, layer by layer, 80 columns wide."""
    parts: list[RenderableType] = []
    for pair in pairs:
        parts += [_comparison_facts(pair), Text(), _difference_table(pair), Text()]
        parts += [folded_text(note) for note in _comparison_notes(pair)] + [Text()]
    return Group(*parts[:-1])


def _comparison_facts(pair: Pair) -> Table:
    facts = {
        "first": pair.first,
        "other": pair.other,
        "rows": (
            f"{pair.n_rows} judged in both, in {pair.n_groups} groups; {pair.n_only_first} only in "
            f"first, {pair.n_only_other} only in other"
        ),
        "layers": "at equal relative depth, as one model has more" if pair.by_depth else "the same",
        "probe": pair.first_probe
        if _same_probe(pair)
        else f"{pair.first_probe}; in other {pair.other_probe}",
    }
    return fact_table(facts)


def _same_probe(pair: Pair) -> bool:
    return pair.first_probe == pair.other_probe


def _difference_table(pair: Pair) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    names = ["layer", "first", "other", "difference", f"{pair.confidence:.0%}", "p corr."]
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    largest = max(abs(one.difference) for one in pair.layers)
    for one in pair.layers:
        layer = f"{one.first_layer}:{one.other_layer}" if pair.by_depth else f"{one.first_layer}"
        table.add_row(
            layer, *_difference_cells(one, one.p_corrected), _difference_bar(one, largest)
        )
    layer = f"{pair.peak.first_layer}:{pair.peak.other_layer}"
    figures = _difference_cells(pair.peak, pair.peak.p)
    table.add_section()
    table.add_row(layer, *figures, Text("peaks"), style="bold green")
    return table


def _difference_cells(one: Difference, p: float) -> list[Text]:
    interval = f"[{one.low:+.3f}, {one.high:+.3f}]"
    figures = (f"{one.first_score:.3f}", f"{one.other_score:.3f}", f"{one.difference:+.3f}")
    return [Text(figure) for figure in (*figures, interval, f"{p:.4f}")]


def _difference_bar(one: Difference, largest: float) -> Text:
    """A bar from the middle, the largest difference to the edge; light where it could be none."""
    cells = ["·"] * (2 * _HALF + 1)
    reach = round(_HALF * one.difference / largest) if largest else 0
    block = "▒" if one.low <= 0 <= one.high else "█"
    for cell in range(min(reach, 0), max(reach, 0) + 1):
        cells[_HALF + cell] = block
    cells[_HALF] = "│"
    return Text("".join(cells))


def _comparison_notes(pair: Pair) -> list[str]:
    flips = "every exchange" if pair.n_flips == 2**pair.n_groups else f"{pair.n_flips} exchanges"
    notes = [
        f"{pair.statistic} on the rows of both, other less first; {pair.confidence:.0%} intervals "
        "resample whole groups, of each layer alone; ▒ perhaps none",
        f"p corr.: {flips} of the runs within groups, against the largest of all layers, in standard errors",
    ]
    if not _same_probe(pair):
        notes.append("the runs were read by different probes: that is part of every difference")
    if pair.n_relabelled:
        notes.append(
            f"{pair.n_relabelled} rows have another label in other, as its dataset is a variant: "
            "compared is who is right"
        )
    if not pair.same_splits:
        notes.append(
            "rows were split in other ways: intervals and p allow for the most that matters"
        )
    if pair.by_depth:
        notes.append("2:4 is layer 2 of first and layer 4 of other")
    if pair.peak_unseen:
        notes.append("peaks: each row judged at the layer that other rows chose; p of this alone")
    else:
        notes.append(
            "peaks: each run's best layer, chosen on rows that it is judged on here; p of this alone"
        )
    return notes
