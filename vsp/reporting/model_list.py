"""The models that `vsp models` lists, as a page and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table

from vsp.reporting.formatting import shorten_path
from vsp.utils.terminal import folded_text, text_line

if TYPE_CHECKING:
    from vsp.models.catalog import Entry


def models_page(entries: Sequence[Entry], families: Sequence[str]) -> RenderableType:
    """The page of `vsp models`, for 80 columns; each checkpoint stands below its model's name."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("model", overflow="fold")
    table.add_column("family", no_wrap=True)
    for column in ("layers", "hidden"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("quantized", no_wrap=True)
    for entry in entries:
        shape = entry.shape
        known = (str(shape.n_layers), str(shape.hidden_size)) if shape else ("–", "–")
        name = text_line(entry.name, style="bold").append("\n")
        model = entry.model
        checkpoint = shorten_path(model.checkpoint or "no checkpoint") if model else "–"
        name.append(text_line(f" {checkpoint}", style="not bold dim"))
        table.add_row(
            name,
            model.family if model else "–",
            *known,
            model.quantized_as if model else "–",
        )
    notes = [f"{entry.name} cannot be used: {entry.problem}" for entry in entries if entry.problem]
    if not all(entry.shape or entry.problem for entry in entries):
        notes.append(
            "–: checkpoint not on this disk. `hf download CHECKPOINT` downloads it into the cache "
            "(HF_HOME); `--local-dir DIR` downloads it into a folder for `--checkpoint DIR`."
        )
    if any(entry.shape for entry in entries):
        notes.append("layers: embedding output and decoder layers")
    notes.append(f"families (for --model): {', '.join(families)}")
    return Group(table, text_line(), *map(folded_text, notes))


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
