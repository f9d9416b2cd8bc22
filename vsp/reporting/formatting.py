"""Figures, paths and models as text, for all pages and tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsp.utils.text import format_ranges

if TYPE_CHECKING:
    from vsp.config import ModelConfig
    from vsp.storage.ledger import BatchEffect

_CONTROLLED = {"names": "pair of names", "prompt": "prompt", "cell": "cell of the picture"}


def controlled_type(name: str) -> str:
    """What gets a random label in the control tasks of this name."""
    return _CONTROLLED.get(name, name)


def format_figure(value: float | None, digits: int = 3) -> str:
    """A number with fixed digits; a dash for an undefined one."""
    return "–" if value is None else f"{value:.{digits}f}"


def format_interval(values: Mapping[str, Any]) -> str:
    """The bounds under `low` and `high`: "[0.131, 0.369]"."""
    low, high = values["low"], values["high"]
    return "–" if low is None or high is None else f"[{low:.3f}, {high:.3f}]"


def format_difference(values: Mapping[str, Any]) -> str:
    """The difference with its sign and its interval."""
    difference = values["difference"]
    return f"{'–' if difference is None else f'{difference:+.3f}'} {format_interval(values)}"


def format_layers(layers: Iterable[int]) -> str:
    """Layer numbers in a sentence: "3, 5–7"."""
    return format_ranges(sorted(layers)).replace("-", "–").replace(",", ", ")


def layer_axis(plan: Mapping[str, Any]) -> str:
    """What layer 0 of a run is, for the axis of a plot."""
    imported = plan.get("imported")
    first = imported["layers"][0] if imported else 0
    return f"layer (0 = {'embedding output' if first == 0 else f'layer {first} of the model'})"


def shorten_path(path: str) -> str:
    """The path relative to the working directory if it lies below it."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path


def format_model(model: ModelConfig) -> str:
    """Family, checkpoint and quantization of a model."""
    checkpoint = shorten_path(model.checkpoint) if model.checkpoint else "no checkpoint"
    stored = ", as stored in the checkpoint" if model.stored_quantization else ""
    adapter = f" with adapter {shorten_path(model.adapter)}" if model.adapter else ""
    random = ", random weights" if model.weights == "random" else ""
    return (
        f"{model.family} ({checkpoint}){adapter}{random}, quantization {model.quantized_as}{stored}"
    )


def format_batch_effect(worst: BatchEffect) -> str:
    """The largest difference between the states of a row in a batch and of the row alone."""
    layer = max(range(len(worst.relative)), key=worst.relative.__getitem__)
    return (
        f"{worst.n_rows} rows run alone differ by at most {max(worst.absolute):.1e}, "
        f"{worst.relative[layer]:.1e} of the largest value in layer {layer}"
    )
