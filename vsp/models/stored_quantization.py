"""Checkpoints whose weights are stored quantised: they are used as they are, or refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vsp.config import ModelConfig
from vsp.errors import ModelError
from vsp.models.checkpoints import on_disk, reading
from vsp.models.library_errors import library_errors, short
from vsp.utils.reading import read_json

_WITH_KERNELS = ("mxfp4",)  # methods whose check asks the hub for a kernel


def stored_quantization(config: ModelConfig) -> str:
    """How a checkpoint on this disk is stored: "4bit", "8bit", another method's name, or "" (plain)."""
    folder = on_disk(config)
    if folder is None:
        return ""
    try:
        values = read_json(folder / "config.json")
    except (OSError, ValueError, RecursionError):
        return ""  # said by whoever reads the configuration
    return _method(values.get("quantization_config") if isinstance(values, dict) else None)


def _method(values: Any) -> str:
    if not values:
        return ""
    if not isinstance(values, Mapping):
        return "an unknown format"
    method = str(values.get("quant_method", "bitsandbytes"))
    if method != "bitsandbytes":
        return method
    return "8bit" if values.get("load_in_8bit") or values.get("_load_in_8bit") else "4bit"


def as_stored(config: ModelConfig, asked: str | None) -> ModelConfig:
    """The same configuration; for a checkpoint that is stored quantised, used as stored.

    `asked` is the quantization that the user asked for, if any. Raises ModelError if it is another
    one than the checkpoint's.
    """
    stored = stored_quantization(config) if config.weights == "checkpoint" else ""
    if not stored:
        return config
    if asked not in (None, stored):
        raise ModelError(
            f"checkpoint {config.checkpoint!r} is stored in {stored}; leave out --quantization "
            f"{asked}, or name a checkpoint that is not quantised"
        )
    return config.model_copy(update={"quantization": "none", "stored_quantization": stored})


def require_loadable(config: ModelConfig, checkpoint: Any) -> None:
    """Raise ModelError if the configuration does not say how the checkpoint is stored, or if this
    installation cannot load it.
    """
    stored = stored_quantization(config)
    if stored != config.stored_quantization:
        raise ModelError(
            f"checkpoint {config.checkpoint!r} is stored in {stored or 'full precision'}, but the "
            f"model's configuration says {config.stored_quantization or 'full precision'}"
        )
    with reading(config, "configuration"):
        values = checkpoint.to_dict()
    parts = {k: v for k, v in values.items() if isinstance(v, Mapping)}
    nested = [key for key, part in parts.items() if "quantization_config" in part]
    if nested:
        raise ModelError(
            f"checkpoint {config.checkpoint!r}: quantization_config stands inside {nested[0]} of its "
            "config.json; it belongs at the top level"
        )
    if not stored:
        return
    if stored not in ("4bit", "8bit"):
        raise ModelError(
            f"checkpoint {config.checkpoint!r} is stored in {stored}, which "
            f"{_why_not(checkpoint)}; name a checkpoint that is not quantised"
        )
    saved = str(checkpoint.dtype or "float32").removeprefix("torch.")
    if config.dtype not in ("auto", saved):
        raise ModelError(
            f"checkpoint {config.checkpoint!r} is stored in {stored} for {saved}; leave out --dtype "
            f"{config.dtype}"
        )


def _why_not(checkpoint: Any) -> str:
    """Why a method other than bitsandbytes is refused: a missing package, or no test."""
    from transformers.quantizers.auto import AutoHfQuantizer

    method = checkpoint.quantization_config
    if isinstance(method, Mapping) and method.get("quant_method") in _WITH_KERNELS:
        return "vsp does not read: transformers would download a kernel for it"
    try:
        with library_errors(lambda error: ModelError(short(error))):
            quantizer = AutoHfQuantizer.from_config(method, pre_quantized=True)
            quantizer.validate_environment(device_map={"": "cpu"}, dtype=checkpoint.dtype)
    except ModelError as error:
        reason = str(error).partition(" - supported")[0]
        return f"this installation cannot load ({reason})"
    return "vsp was not tested with: its weights may be computed otherwise from machine to machine"
