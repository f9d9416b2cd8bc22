"""The page of `vsp compare`: other runs against the first, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table

from vsp.utils.terminal import fact_table, folded_text, text_line

if TYPE_CHECKING:
    from vsp.evaluation.compare import Difference, Pair

_HALF_BAR, _WIDE_HALF_BAR = 7, 30  # maximum width of half a bar
_WIDE = 100  # columns of a terminal on which the bar is wider
_PEAK = "peak"  # shown instead of a bar


def comparison_page(pairs: Sequence[Pair], differences: str = "") -> RenderableType:
    """The page of `vsp compare`; `differences` says what differs between the runs.

    Notes that hold for all pairs are at the end, others below the table of their pair.
    """
    parts: list[RenderableType] = (
        [folded_text(differences, style="bold"), text_line()] if differences else []
    )
    notes = [_comparison_notes(pair) for pair in pairs]
    of_all = [note for note in notes[0] if all(note in one for one in notes)]
    for pair, of_pair in zip(pairs, notes, strict=True):
        parts += [_comparison_facts(pair), text_line(), _difference_table(pair), text_line()]
        own = [folded_text(note) for note in of_pair if note not in of_all]
        parts += [*own, text_line()] if own else []
    return Group(*parts, *map(folded_text, of_all))


def _comparison_facts(pair: Pair) -> Table:
    same_probe = pair.first_probe == pair.other_probe
    facts = {
        "first": pair.first,
        "other": pair.other,
        "rows": (
            f"{pair.n_rows} test rows in both, in {pair.n_groups} groups; {pair.n_only_first} only "
            f"in first, {pair.n_only_other} only in other"
        ),
        "layers": (
            "matched by relative depth, because one model has more layers"
            if pair.by_depth
            else "the same in both"
        ),
        "probe": (
            pair.first_probe
            if same_probe
            else f"{pair.first_probe} in first; {pair.other_probe} in other"
        ),
    }
    return fact_table(facts)


def _difference_table(pair: Pair) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("layer", "first", "other", "diff.", f"{pair.confidence:.0%}", "p corr."):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    largest = max(abs(one.difference) for one in pair.layers)
    for one in pair.layers:
        layer = f"{one.first_layer}:{one.other_layer}" if pair.by_depth else f"{one.first_layer}"
        cells = _difference_cells(one, one.p_corrected)
        table.add_row(layer, *cells, _DifferenceBar(one, largest))
    peak = pair.peak
    table.add_section()
    table.add_row(
        f"{peak.first_layer}:{peak.other_layer}",
        *_difference_cells(peak, peak.p),
        text_line(_PEAK, no_wrap=True),
        style="bold green",
    )
    return table


def _difference_cells(one: Difference, p: float) -> list[RenderableType]:
    interval = f"[{one.low:+.3f}, {one.high:+.3f}]"
    figures = (f"{one.first_score:.3f}", f"{one.other_score:.3f}", f"{one.difference:+.3f}")
    return [text_line(figure) for figure in (*figures, interval, f"{p:.4f}")]


@dataclass(frozen=True, slots=True)
class _DifferenceBar:
    """A bar from the middle to the left or right; light if the interval contains 0.

    It takes the width that the other columns leave, up to `_HALF_BAR` for each half, or
    `_WIDE_HALF_BAR` on a wide terminal; the largest difference fills one half.
    """

    difference: Difference
    largest: float

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        half = _WIDE_HALF_BAR if options.max_width > _WIDE else _HALF_BAR
        return Measurement(len(_PEAK), min(2 * half + 1, options.max_width))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        one, half = self.difference, min(_WIDE_HALF_BAR, (options.max_width - 1) // 2)
        cells = ["·"] * (2 * half + 1)
        reach = round(half * one.difference / self.largest) if self.largest else 0
        block = "▒" if one.low <= 0 <= one.high else "█"
        for cell in range(min(reach, 0), max(reach, 0) + 1):
            cells[half + cell] = block
        cells[half] = "│"
        yield text_line("".join(cells))


def _comparison_notes(pair: Pair) -> list[str]:
    every = pair.n_flips == 2**pair.n_groups
    flips = f"all {pair.n_flips} flips" if every else f"{pair.n_flips} flips"
    notes = [
        f"diff.: {pair.statistic} of other minus {pair.statistic} of first, on the same rows.",
        f"{pair.confidence:.0%}: interval of each layer by itself, from resampled groups. "
        "▒ the interval contains 0.",
        f"p corr.: sign-flip test over groups ({flips}), studentised maximum over layers.",
    ]
    notes.append(
        "Intervals and p are about other test rows and other training rows."
        if pair.over_training
        else "Intervals and p are about other test rows, for these fitted probes. Runs that are "
        "trained on other rows can differ by more: --over training."
    )
    if pair.by_depth:
        notes.append("2:4: layer 2 of first and layer 4 of other.")
    if pair.peak_unseen:
        notes.append(
            "peak: each row is scored at the layer selected on other rows; its p is not corrected."
        )
    else:
        notes.append(
            "peak: the best layer of each run, selected on the rows it is scored on (optimistic); "
            "its p is not corrected."
        )
    if pair.first_probe != pair.other_probe:
        notes.append("The runs used different probes, so a difference may come from the probe.")
    if pair.n_relabelled:
        notes.append(
            f"{pair.n_relabelled} rows have another label in other, because its dataset is a "
            "variant; each run is scored on its own labels."
        )
    if not pair.same_splits:
        notes.append(
            "The runs use different splits; intervals and p allow for the largest effect this can "
            "have."
        )
    return notes
