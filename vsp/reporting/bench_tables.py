"""The tables of `vsp bench`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType

from vsp.reporting.columns import Column, FittingTable, figure_cells
from vsp.utils.terminal import folded_text, text_line
from vsp.utils.text import format_bytes

if TYPE_CHECKING:
    from vsp.extraction.bench import Bench, Way


def _notes(ways: Sequence[Way]) -> list[str]:
    """Explanations of the columns and words that the tables show."""
    notes = {
        "batch: this many of the longest rows set the number of tokens that run at once.": True,
        "too big: the batch does not fit the memory.": any(
            one.rows_per_second is None for one in ways
        ),
        "speed-up: rows/s over those of transformers, one by one.": any(
            one.times_plain for one in ways
        ),
        "times vsp: time over that of vsp, which records states of the last token and nothing else.": any(
            one.times_vsp for one in ways
        ),
        "of forward: share of the speed of the forward passes alone, without reading or writing.": any(
            one.of_bare for one in ways
        ),
        "peak: memory besides the weights.": any(one.peak_bytes for one in ways),
        "forward peak: memory of the forward passes alone, besides the weights.": any(
            one.bare_peak_bytes for one in ways
        ),
    }
    return [note for note, is_shown in notes.items() if is_shown]


def bench_page(benches: Sequence[Bench], n_planned: int | None) -> RenderableType:
    """The page of `vsp bench`, for 80 columns: rows per second, and the time for the planned rows."""
    parts: list[RenderableType] = []
    for bench in benches:
        images = f"{bench.n_rows} {bench.title}, {bench.n_images} images"
        parts += [text_line(images, style="bold"), _ways_table(bench)]
        if bench.difference is not None:
            agreement = (
                f"states of all ways differ by at most {bench.difference:.1g} of the largest value "
                "in their layer"
            )
            parts.append(folded_text(agreement))
        parts += [folded_text(note) for note in (*_answers(bench), *bench.notes)]
        parts.append(folded_text(_ceilings(bench)))
        if bench.best is not None and bench.best.rows_per_second is not None:
            parts.append(folded_text(_forecast(bench, bench.best.rows_per_second, n_planned)))
        parts.append(text_line())
    ways = [way for bench in benches for way in bench.ways]
    parts += [folded_text(note) for note in _notes(ways)]
    return Group(*parts)


def _ways_table(bench: Bench) -> FittingTable:
    """A row for each way and batch; columns without a figure are left out."""
    ways = bench.ways
    rates = [
        "too big" if one.rows_per_second is None else f"{one.rows_per_second:,.1f}" for one in ways
    ]
    columns = [
        Column("way", [folded_text(way.name) for way in ways], folds_to=16),
        Column("batch", figure_cells([str(way.batch) for way in ways])),
        Column("rows/s", figure_cells(rates)),
        _optional("speed-up", [_ratio(way.times_plain) for way in ways], 3),
        _optional("times vsp", [_ratio(way.times_vsp) for way in ways], 2),
        _optional("of forward", [_ratio(way.of_bare) for way in ways], 5),
        _optional("peak", [_size(way.peak_bytes) for way in ways], 1),
        _optional("forward peak", [_size(way.bare_peak_bytes) for way in ways], 4),
    ]
    styles = ["bold" if way is bench.best else "" for way in ways]
    return FittingTable([one for one in columns if one is not None], styles)


def _optional(head: str, figures: Sequence[str], rank: int) -> Column | None:
    return Column(head, figure_cells(figures), rank) if any(figures) else None


def _ratio(figure: float | None) -> str:
    return "" if figure is None else f"{figure:.2f}"


def _size(n_bytes: int | None) -> str:
    return "" if n_bytes is None else format_bytes(n_bytes)


def _answers(bench: Bench) -> list[str]:
    """The answer options that were measured, if all rows have the same."""
    if not bench.option_tokens:
        return []
    tokens = ", ".join(map(str, sorted(bench.option_tokens)))
    return [f"answers: {len(bench.option_tokens)} options of {tokens} tokens"]


def _ceilings(bench: Bench) -> str:
    """What the host can prepare, beside what the device can compute."""
    rows = bench.pictures_per_core * bench.n_rows / bench.n_images
    host = f"one core prepares {bench.pictures_per_core:,.1f} pictures/s, for {rows:,.1f} rows/s"
    if bench.forward_rows_per_second is None:
        return host
    return f"{host}; forward passes alone: {bench.forward_rows_per_second:,.1f} rows/s"


def _forecast(bench: Bench, rate: float, n_planned: int | None) -> str:
    n_rows = 1_000_000 if n_planned is None else n_planned
    hours = n_rows / rate / 3600
    time = f"{hours:,.1f} hours" if hours >= 1 else f"{60 * hours:,.1f} minutes"
    gpu = f", {hours:,.2f} GPU-hours" if bench.on_gpu else ""
    whose = "a million rows" if n_planned is None else f"the plan's {n_planned:,} rows"
    more = "".join(
        f"; with {way.name.removeprefix('vsp, ')}: {way.times_vsp:.2f} times as long"
        for way in bench.ways
        if bench.best is not None and way.batch == bench.best.batch and way.times_vsp
    )
    return f"{whose} take about {time} in one task at {rate:,.1f} rows/s{gpu}{more}"
