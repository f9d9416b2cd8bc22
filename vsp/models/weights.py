"""Checks that every weight of a model comes from its checkpoint.

transformers gives a missing weight random values and goes on. The states would then differ from
process to process. The names and shapes in a checkpoint are matched by transformers itself: at plan
time on the headers of its files, without reading weights, and again when a task loads them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.utils import logging as transformers_logging

from vsp.config import ModelConfig
from vsp.errors import ModelError
from vsp.models.checkpoints import check_weights
from vsp.models.outline import empty_model

_log = logging.getLogger(__name__)
_SHOWN = 3  # names in a message
# Prefixes of wrappers that were saved instead of the model inside, and how to save that one.
_WRAPPERS = {
    "base_model.model.": ("PEFT", "model.merge_and_unload().save_pretrained(DIR)"),
    "module.": ("DataParallel or DeepSpeed", "model.module.save_pretrained(DIR)"),
    "_orig_mod.": ("torch.compile", "model._orig_mod.save_pretrained(DIR)"),
}

Shape = tuple[int, ...]
# A weight by its name: whether states depend on it.
Needed = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Match:
    """How the weights of a checkpoint fit a model, by the names of the model's weights."""

    n_weights: int  # of the model
    missing: Sequence[str]
    mismatched: Sequence[tuple[str, Shape, Shape]]  # name, shape in the checkpoint, shape wanted
    unused: Sequence[str]  # names in the checkpoint


def outside_head(name: str) -> bool:
    """Whether states depend on a weight: on all but those of the head that makes logits."""
    return "lm_head" not in name.split(".")


def require_whole(config: ModelConfig, checkpoint: Any) -> None:
    """Raise ModelError unless the files of a checkpoint hold every weight that states depend on."""
    files = check_weights(config)
    shapes = read_shapes(files)
    if config.stored_quantization:
        # Packed weights have other shapes, and their scales stand beside them.
        checkpoint = copy(checkpoint)
        del checkpoint.quantization_config
        match = match_shapes(empty_model(checkpoint), shapes)
        match = replace(match, mismatched=(), unused=())
    else:
        match = match_shapes(empty_model(checkpoint), shapes)
    require_match(match, files[0].parent)


def read_shapes(files: Sequence[Path]) -> dict[str, Shape]:
    """Name and shape of each tensor, from the headers of complete safetensors files."""
    shapes: dict[str, Shape] = {}
    for path in files:
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        shapes |= {
            name: tuple(entry["shape"]) for name, entry in header.items() if name != "__metadata__"
        }
    return shapes


def match_shapes(model: Any, shapes: Mapping[str, Shape]) -> Match:
    """Match tensors with a model of transformers on the meta device; reads and computes nothing."""
    tensors = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    with report_off():
        _, info = type(model).from_pretrained(
            None,
            config=model.config,
            state_dict=tensors,
            device_map={"": "meta"},
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    return match_of(model, info)


@contextmanager
def report_off() -> Iterator[None]:
    """Turn off the bar and the table of missing weights of transformers: `require_match` says it."""
    transformers_logging.disable_progress_bar()
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)


def match_module(module: nn.Module, shapes: Mapping[str, Shape]) -> Match:
    """Match tensors with a module of our own, name by name."""
    wanted = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    both = [name for name in wanted if name in shapes]
    return Match(
        len(wanted),
        sorted(wanted.keys() - shapes.keys()),
        [(name, shapes[name], wanted[name]) for name in both if shapes[name] != wanted[name]],
        sorted(shapes.keys() - wanted.keys()),
    )


def match_of(model: Any, info: Mapping[str, Any]) -> Match:
    """The match in the loading information of transformers."""
    mismatched = [(name, tuple(a), tuple(b)) for name, a, b in info["mismatched_keys"]]
    return Match(
        len(model.state_dict()),
        sorted(info["missing_keys"]),
        sorted(mismatched),
        sorted(info["unexpected_keys"]),
    )


def require_match(match: Match, where: Path | str, needed: Needed = outside_head) -> None:
    """Log how many tensors are not used.

    Raises ModelError, one line with the first names, if a needed weight is missing or has another
    shape than the configuration says.
    """
    missing = [name for name in match.missing if needed(name)]
    wrapper = _wrapper(match.unused)
    if missing and wrapper:
        maker, save = _WRAPPERS[wrapper]
        raise ModelError(
            f"{where}: the names of its weights begin with {wrapper!r}, which {maker} adds; save "
            f"the model itself, `{save}`, and use that folder"
        )
    if missing:
        raise ModelError(
            f"{where}: {len(missing)} of {match.n_weights} weights are missing, {_first(missing)}; "
            "save the whole model, frozen parts too, or use the checkpoint that it was made from"
        )
    others = [one for one in match.mismatched if needed(one[0])]
    empty = [name for name, shape, _ in others if 0 in shape]
    if empty:
        raise ModelError(
            f"{where}: {len(empty)} of {match.n_weights} weights are empty, {_first(empty)}; DeepSpeed "
            "ZeRO-3 saves such files; gather the weights with its zero_to_fp32.py"
        )
    if others:
        name, found, wanted = others[0]
        raise ModelError(
            f"{where}: {len(others)} of {match.n_weights} weights have another shape than its "
            f"configuration says, for example {name}: {list(found)}, not {list(wanted)}; use the "
            "config.json that belongs to these weights"
        )
    if match.unused:
        _log.info(
            "%s: tensors of the checkpoint that the model does not use: %d, %s",
            where, len(match.unused), _first(match.unused),
        )  # fmt: skip


def require_finite(model: nn.Module, where: Path | str) -> None:
    """Raise ModelError if a weight of a loaded model is infinite or not a number."""
    with torch.inference_mode():
        bad = [name for name, value in model.named_parameters() if not _is_finite(value)]
    if bad:
        raise ModelError(
            f"{where}: {len(bad)} weights hold values that are infinite or not a number, "
            f"{_first(bad)}; the training that wrote them failed"
        )


def _is_finite(value: Any) -> bool:
    """Whether a weight is finite; of quantised weights, their scales are looked at."""
    packed = getattr(value, "quant_state", None)
    scales = [value] if packed is None else [packed.absmax, packed.offset]
    scales += [value.SCB] if getattr(value, "SCB", None) is not None else []
    return all(
        bool(torch.isfinite(one).all())
        for one in scales
        if one is not None and one.is_floating_point()
    )


def _wrapper(unused: Sequence[str]) -> str:
    """The wrapper whose prefix all unused names have; "" if there is none."""
    if not unused:
        return ""
    prefixes = (p for p in _WRAPPERS if all(name.startswith(p) for name in unused))
    return next(prefixes, "")


def _first(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return f"the first: {shown}" if len(names) > _SHOWN else shown
