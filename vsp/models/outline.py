"""Makes outlines: the modules and shapes of a model, without memory for its weights."""

from __future__ import annotations

from typing import Any

from vsp.errors import ModelError
from vsp.models.checkpoints import CANNOT_BUILD


def empty_model(checkpoint: Any) -> Any:
    """The model that a configuration describes, on torch's meta device."""
    import torch
    from transformers import AutoModelForImageTextToText

    try:
        with torch.device("meta"):
            return AutoModelForImageTextToText.from_config(checkpoint)
    except CANNOT_BUILD as error:
        reason = " ".join(str(error).split())
        raise ModelError(
            f"transformers cannot load model type {checkpoint.model_type!r} for image and text "
            f"({reason[:120]}); "
            "name another --checkpoint"
        ) from None


def decoder_path(model: Any) -> str:
    """Name of the module that holds the decoder's layers and its final norm."""
    from torch import nn

    names: list[str] = [
        name
        for name, module in model.named_modules()
        if isinstance(getattr(module, "layers", None), nn.ModuleList)
        and isinstance(getattr(module, "norm", None), nn.Module)
        and len(module.layers) == model.config.get_text_config().num_hidden_layers
        and module.get_input_embeddings() is not None
    ]
    if len(names) != 1:
        seen = [name for name, _ in model.named_modules() if 0 < len(name.split(".")) <= 3 and name]
        raise ModelError(
            f"a {type(model).__name__} has {len(names)} modules with decoder layers and a final "
            "norm instead of 1; this model is not supported",
            details=[f"module {name}" for name in seen if not name.split(".")[-1].isdigit()],
        )
    return names[0]


def modules_outside_decoder(model: Any, path: str) -> list[str]:
    """Names of the modules outside the decoder at `path`: vision tower, projector, lm_head."""
    names, parts = [], path.split(".")
    for depth, part in enumerate(parts):
        parent = ".".join(parts[:depth])
        names += [
            f"{parent}.{child}" if parent else child
            for child, _ in model.get_submodule(parent).named_children()
            if child != part
        ]
    return names
