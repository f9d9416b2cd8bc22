"""Names of models, datasets and runs for titles, labels and captions: never a path of the machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsp.choices import LAST, position_words
from vsp.config import parse
from vsp.storage.plan import Plan

if TYPE_CHECKING:
    from vsp.config import ModelConfig


def plan_of(summary: Mapping[str, Any]) -> Plan:
    """The plan whose results a summary describes."""
    return parse(Plan, summary["plan"], f"results of run {summary['run']}")


def model_name(model: ModelConfig) -> str:
    """The checkpoint's name, with adapter, quantization and random weights where there are any."""
    words = [Path(model.checkpoint).name if model.checkpoint else model.family]
    if model.adapter:
        words.append(f"adapter {Path(model.adapter).name}")
    if model.weights == "random":
        words.append("random weights")
    if model.quantized_as != "none":
        words.append(model.quantized_as)
    return ", ".join(words)


def dataset_name(plan: Plan) -> str:
    return Path(plan.dataset).name


def run_title(summary: Mapping[str, Any]) -> str:
    """Dataset and model in one line, and the position if it is not the last token."""
    plan, position = plan_of(summary), summary["position"]
    title = f"{dataset_name(plan)} · {model_name(plan.model)}"
    return title if position == LAST else f"{title} · {position_words(position)}"


def display_names(typed: Sequence[str]) -> dict[str, str]:
    """A name for each path or name that a user typed: the last part of a path.

    Of paths with the same last part, the nearest parts that differ stand behind it; what is the same
    file twice gets a number.
    """
    names: dict[str, str] = {}
    for one in dict.fromkeys(typed):
        parts = _parts(one)
        alike = [_parts(other) for other in dict.fromkeys(typed) if other != one]
        alike = [other for other in alike if other[0] == parts[0]]
        apart = _nearest_difference(parts, alike)
        name = f"{parts[0]} ({apart})" if apart else parts[0]
        n = list(names.values()).count(name)
        while name in names.values():
            n += 1
            name = f"{parts[0]} ({n})"
        names[one] = name
    return names


def _parts(typed: str) -> tuple[str, ...]:
    """The parts of a path from the last to the first; a name is a part."""
    path = Path(typed)
    parts = path.absolute().parts if "/" in typed or typed in (".", "..") else path.parts
    return tuple(reversed(parts)) or (typed,)


def _nearest_difference(parts: Sequence[str], alike: Sequence[Sequence[str]]) -> str:
    """The part nearest to the end that no other path has in its place; "" if there is none."""
    for place in range(1, len(parts) if alike else 0):
        if all(other[place : place + 1] != (parts[place],) for other in alike):
            return parts[place]
    return ""
