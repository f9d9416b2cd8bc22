"""Checks that every weight of a model comes from its checkpoint.

transformers gives a missing weight random values and goes on. The states would then differ from
process to process. The names and shapes in a checkpoint are matched by transformers itself: at plan
time on the headers of its files, without reading weights, and again when a task loads them.
"""

from __future__ import annotations

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
from vsp.models.checkpoints import INDEX, check_weights, read_index
from vsp.models.library_errors import library_errors, short
from vsp.models.outline import GIVEN, empty_model
from vsp.models.safetensors_header import Header, join_headers
from vsp.utils.safetensors_header import Shape
from vsp.utils.text import shorten

_log = logging.getLogger(__name__)
_SHOWN = 3  # names in a message
_LONGEST = 100  # characters of a name in a message
# Prefixes of wrappers that were saved instead of the model inside, and how to save that one.
_WRAPPERS = {
    "base_model.model.": ("PEFT", "model.merge_and_unload().save_pretrained(DIR)"),
    "module.": ("DataParallel or DeepSpeed", "model.module.save_pretrained(DIR)"),
    "_orig_mod.": ("torch.compile", "model._orig_mod.save_pretrained(DIR)"),
}

# Tensors that stand beside quantised weights.
_SCALES = (".SCB", ".absmax", ".input_scale", ".qweight", ".weight_scale", ".weight_scale_inv")
_STATES = ("bitsandbytes__nf4", "bitsandbytes__fp4")  # bitsandbytes: the kind of 4 bits

# Takes the name of a weight; True if states depend on it.
Needed = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Match:
    """How the weights of a checkpoint fit a model, by the names of the model's weights."""

    n_weights: int  # of the model
    missing: Sequence[str]
    mismatched: Sequence[tuple[str, Shape, Shape]]  # name, shape in the checkpoint, shape wanted
    unused: Sequence[str]  # names in the checkpoint


def outside_head(name: str) -> bool:
    """True for all weights but those of `lm_head`, on which no state depends."""
    return "lm_head" not in name.split(".")


def needed_by_states(checkpoint: Any) -> Needed:
    """A function that is True for the names of weights on which states depend.

    LLaVA uses one layer of its tower, so the layers after it may be missing.
    """
    layer = getattr(checkpoint, "vision_feature_layer", None)
    n_layers = getattr(getattr(checkpoint, "vision_config", None), "num_hidden_layers", None)
    if not isinstance(layer, int) or not isinstance(n_layers, int):
        return outside_head
    if not -n_layers - 1 <= layer <= n_layers:
        raise ModelError(
            f"vision_feature_layer {layer} is beyond the {n_layers} layers of the vision tower; correct it "
            "in config.json"
        )
    n_used = range(n_layers + 1)[layer]
    return lambda name: outside_head(name) and before_layer(name, n_used)


def before_layer(name: str, n_used: int) -> bool:
    """False for weights of the vision tower after its first `n_used` layers."""
    if "language_model" in name:
        return True
    _, found, rest = name.partition("encoder.layers.")
    if found:
        return int(rest.partition(".")[0]) < n_used
    return "post_layernorm" not in name


def holds_head(match: Match) -> bool:
    """Whether the checkpoint holds the head; one that is tied to the embeddings counts."""
    lost = (*match.missing, *(name for name, _, _ in match.mismatched))
    return all(map(outside_head, lost))


def require_whole(config: ModelConfig, checkpoint: Any) -> None:
    """Raise ModelError unless the files of a checkpoint hold every weight that states depend on."""
    match, where = match_checkpoint(config, checkpoint)
    require_match(match, where, needed_by_states(checkpoint))


def match_checkpoint(config: ModelConfig, checkpoint: Any) -> tuple[Match, Path]:
    """How the files of a checkpoint fit its model, and the folder that they are in."""
    headers, where = checkpoint_headers(config)
    if config.stored_quantization:
        require_packed(headers, config.stored_quantization, where)
        # Packed weights have other shapes, and their scales stand beside them.
        checkpoint = copy(checkpoint)
        del checkpoint.quantization_config
        match = match_shapes(empty_model(checkpoint), headers)
        return replace(match, mismatched=(), unused=()), where
    require_plain(headers, where)
    return match_shapes(empty_model(checkpoint), headers), where


def checkpoint_headers(config: ModelConfig, part: str = "") -> tuple[dict[str, Header], Path]:
    """Dtype and shape of each tensor of a checkpoint, or of a part of it, and the folder of its files.

    Raises ModelError if a file is missing or damaged, or if the index names other tensors.
    """
    held = check_weights(config, part)
    folder = next(iter(held)).parent
    headers = join_headers(held)
    if [path.name for path in held] != ["model.safetensors"]:
        _require_indexed(folder / INDEX, held)
    return headers, folder


def _require_indexed(index: Path, held: Mapping[Path, Mapping[str, Header]]) -> None:
    """Raise ModelError if a file does not hold a tensor that the index says it holds."""
    for tensor, name in read_index(index).items():
        if tensor not in held.get(index.parent / name, ()):
            raise ModelError(
                f"{index}: says that {name} holds {shorten(repr(tensor), _LONGEST)}, which it does "
                "not; download the checkpoint again"
            )


def require_plain(headers: Mapping[str, Header], where: Path | str) -> None:
    """Raise ModelError if weights are quantised, which config.json would have to say.

    They would be converted to floating point without their scales.
    """
    packed = [
        name
        for name, header in headers.items()
        if name.endswith(_SCALES)
        or (name.endswith("weight") and not header.dtype.startswith(("F16", "F32", "F64", "BF16")))
    ]
    if packed:
        raise ModelError(
            f"{where}: {len(packed)} tensors are of a quantised checkpoint, {_first(sorted(packed))}, but "
            "config.json has no quantization_config; use the config.json that belongs to these weights"
        )


def require_packed(headers: Mapping[str, Header], stored: str, where: Path | str) -> None:
    """Raise ModelError unless weights are quantised as config.json says, with all their scales."""
    dtype, scale = {"4bit": ("U8", "weight.absmax"), "8bit": ("I8", "SCB")}[stored]
    packed = [n for n, h in headers.items() if n.endswith(".weight") and h.dtype == dtype]
    if not packed:
        raise ModelError(
            f"{where}: config.json says that the weights are stored in {stored}, but they are not; "
            "remove quantization_config from it"
        )
    lone = [n for n in packed if f"{n.removesuffix('weight')}{scale}" not in headers]
    if stored == "4bit" and not lone:
        lone = [n for n in packed if not any(f"{n}.quant_state.{k}" in headers for k in _STATES)]
    if lone:
        raise ModelError(
            f"{where}: the scales of {len(lone)} quantised weights are missing, {_first(lone)}; save the "
            "checkpoint again"
        )


def match_shapes(model: Any, headers: Mapping[str, Header]) -> Match:
    """Match tensors with a model of transformers on the meta device; reads and computes nothing."""

    def describe(error: BaseException) -> ModelError:
        return ModelError(
            f"transformers cannot match the weights with a {type(model).__name__} ({short(error)}); use "
            "the config.json that belongs to these weights"
        )

    with library_errors(describe), quiet_transformers():
        tensors = {name: torch.empty(h.shape, device="meta") for name, h in headers.items()}
        _, info = type(model).from_pretrained(
            None,
            config=model.config,
            state_dict=tensors,
            device_map={"": "meta"},
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **GIVEN,
        )
    return match_of(model, info)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Turn off the progress bars and warnings of transformers, such as its table of missing weights."""
    transformers_logging.disable_progress_bar()
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)


def match_module(module: nn.Module, headers: Mapping[str, Header]) -> Match:
    """Match tensors with a module of our own, name by name."""
    shapes = {name: header.shape for name, header in headers.items()}
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
    if missing:
        _refuse_wrapped(match.unused, where)
    if any(".lora_" in name for name in match.unused):
        raise ModelError(
            f"{where}: holds weights of a LoRA adapter among its own, which would be ignored; merge "
            "them, or save base and adapter apart and use --adapter"
        )
    if missing:
        raise ModelError(
            f"{where}: {len(missing)} of {match.n_weights} weights are missing, {_first(missing)}; "
            "save the whole model, frozen parts too, or use the checkpoint that it was made from"
        )
    _require_shapes(match, where, needed)
    if match.unused:
        _log.info(
            "%s: tensors of the checkpoint that the model does not use: %d, %s",
            where, len(match.unused), _first(match.unused),
        )  # fmt: skip


def _refuse_wrapped(unused: Sequence[str], where: Path | str) -> None:
    """Raise ModelError if the unused names are those of a model inside a wrapper."""
    wrapper = _wrapper(unused)
    if wrapper:
        maker, save = _WRAPPERS[wrapper]
        raise ModelError(
            f"{where}: the names of its weights begin with {wrapper!r}, which {maker} adds; save "
            f"the model itself, `{save}`, and use that folder"
        )
    if any(".base_layer." in name for name in unused):
        raise ModelError(
            f"{where}: holds a model with an adapter that is not merged; save "
            f"`{_WRAPPERS['base_model.model.'][1]}`, and use that folder"
        )


def _require_shapes(match: Match, where: Path | str, needed: Needed) -> None:
    """Raise ModelError if a needed weight is empty or has another shape than the model's."""
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
            f"configuration says, for example {shorten(name, _LONGEST)}: {list(found)}, not {list(wanted)}; "
            "use the config.json that belongs to these weights"
        )


def require_finite(model: nn.Module, where: Path | str, needed: Needed = outside_head) -> None:
    """Raise ModelError if a needed weight of a loaded model is infinite or not a number."""
    with torch.inference_mode():
        bad = [n for n, value in model.named_parameters() if needed(n) and not _is_finite(value)]
    if bad:
        raise ModelError(
            f"{where}: {len(bad)} weights hold values that are infinite or not a number, "
            f"{_first(bad)}; the training that wrote them failed"
        )


def _is_finite(value: Any) -> bool:
    """True if all values are finite; for a quantised weight, if its scales are."""
    packed = getattr(value, "quant_state", None)
    scales = [value] if packed is None else [packed.absmax, packed.offset]
    scales += [value.SCB] if getattr(value, "SCB", None) is not None else []
    return all(
        bool(torch.isfinite(one).all())
        for one in scales
        if one is not None and one.is_floating_point()
    )


def _wrapper(unused: Sequence[str]) -> str:
    """The wrapper whose prefix most unused names have; "" if there is none."""
    counts = {prefix: sum(name.startswith(prefix) for name in unused) for prefix in _WRAPPERS}
    return next((prefix for prefix, n in counts.items() if 2 * n > len(unused)), "")


def _first(names: Sequence[str]) -> str:
    shown = ", ".join(shorten(name, _LONGEST) for name in names[:_SHOWN])
    return f"the first: {shown}" if len(names) > _SHOWN else shown
