"""Figures, paths and models as the tables and pages of vsp print them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vsp.config import ModelConfig


def format_figure(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def format_interval(values: Mapping[str, Any]) -> str:
    low, high = values["low"], values["high"]
    return "–" if low is None or high is None else f"[{low:.3f}, {high:.3f}]"


def format_difference(values: Mapping[str, Any]) -> str:
    return f"{values['difference']:+.3f} {format_interval(values)}"


def format_bytes(n_bytes: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:,.1f} TB"


def shorten_path(path: str) -> str:
    """A path as seen from the working directory, where it lies below it."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path


def format_model(model: ModelConfig) -> str:
    checkpoint = shorten_path(model.checkpoint) if model.checkpoint else "no checkpoint"
    return f"{model.family} ({checkpoint}), quantization {model.quantization}"
