"""The models that `vsp models` lists, as a page and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.segment import Segment, Segments
from rich.table import Table

from vsp.reporting.formatting import shorten_path
from vsp.utils.terminal import folded_text, text_line

if TYPE_CHECKING:
    from vsp.models.catalog import Entry


def models_page(entries: Sequence[Entry], families: Sequence[str]) -> RenderableType:
    """The page of `vsp models`."""
    notes = [f"{entry.name} cannot be used: {entry.problem}" for entry in entries if entry.problem]
    if not all(entry.shape or entry.problem for entry in entries):
        notes.append(
            "–: checkpoint not on this disk. `hf download CHECKPOINT` downloads it into the cache "
            "(HF_HOME); `--local-dir DIR` downloads it into a folder for `--checkpoint DIR`."
        )
    if any(entry.shape for entry in entries):
        notes.append("layers: embedding output and decoder layers")
    notes.append(f"families (for --model): {', '.join(families)}")
    return Group(_ModelTable(entries), text_line(), *map(folded_text, notes))


@dataclass(frozen=True, slots=True)
class _ModelTable:
    """A line for each model; without room for the checkpoints, each has a line below its model."""

    entries: Sequence[Entry]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        unlimited = options.update_width(10_000)
        wide = self._lines(with_checkpoint=True)
        if Measurement.get(console, unlimited, wide).maximum <= options.max_width:
            yield wide
            return
        narrow = self._lines(with_checkpoint=False)
        if Measurement.get(console, unlimited, narrow).maximum > options.max_width:
            for entry in self.entries:
                yield folded_text(entry.name, style="bold")
                yield folded_text(f" {_family(entry)}, {_checkpoint(entry)}", style="dim")
            return
        head, *lines = console.render_lines(narrow, options, pad=False)
        yield Segments([*head, Segment.line()])
        for entry, line in zip(self.entries, lines, strict=True):
            yield Segments([*line, Segment.line()])
            yield folded_text(f" {_checkpoint(entry)}", style="dim")

    def _lines(self, with_checkpoint: bool) -> Table:
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("model", no_wrap=True)
        table.add_column("family", no_wrap=True)
        for column in ("layers", "hidden"):
            table.add_column(column, justify="right", no_wrap=True)
        table.add_column("quantized", no_wrap=True)
        if with_checkpoint:
            table.add_column("checkpoint", no_wrap=True)
        for entry in self.entries:
            shape, model = entry.shape, entry.model
            known = (str(shape.n_layers), str(shape.hidden_size)) if shape else ("–", "–")
            cells = [entry.name, _family(entry), *known]
            cells += [model.quantized_as if model else "–", _checkpoint(entry)]
            table.add_row(*map(text_line, cells[: len(table.columns)]))
        return table


def _family(entry: Entry) -> str:
    return entry.model.family if entry.model else "–"


def _checkpoint(entry: Entry) -> str:
    return shorten_path(entry.model.checkpoint or "no checkpoint") if entry.model else "–"


def supported_page(supported: Mapping[str, str]) -> RenderableType:
    """The page of `vsp models --supported`: the model types below what vsp does with them."""
    types: dict[str, list[str]] = {}
    for name, status in supported.items():
        types.setdefault(status, []).append(name)
    lines = []
    order = ("parity", "loads", "refused")
    for status in sorted(
        types, key=lambda status: (order.index(status.split()[0].strip(",")), status)
    ):
        lines += [text_line(status, style="bold"), folded_text("  " + ", ".join(types[status]))]
    return Group(*lines)


def models_json(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """The models as `vsp models --json` prints them."""
    return [
        {
            "name": entry.name,
            **(entry.model.model_dump(mode="json") if entry.model else {}),
            "n_layers": entry.shape and entry.shape.n_layers,
            "hidden_size": entry.shape and entry.shape.hidden_size,
            "problem": entry.problem or None,
        }
        for entry in entries
    ]
