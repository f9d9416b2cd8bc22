"""Makes outlines: the modules and shapes of a model, without memory for its weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from vsp.config import ModelConfig
from vsp.errors import ModelError
from vsp.models.checkpoints import reading
from vsp.models.library_errors import library_errors, short

# Given wherever a model is built, so that no file of a checkpoint chooses them: a configuration can
# name a kernel on the hub, which would be downloaded and run. None: the default of the model's class.
GIVEN: Mapping[str, None] = MappingProxyType(
    {"attn_implementation": None, "experts_implementation": None}
)


def load_config(config: ModelConfig, folder: Path) -> Any:
    """The configuration in a folder, as transformers completes it.

    Raises ModelError if transformers cannot read it.
    """
    from transformers import AutoConfig

    with reading(config, "configuration"):
        checkpoint = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        # The setters of these pass the value on to the parts of the configuration.
        for name, value in GIVEN.items():
            setattr(checkpoint, f"_{name}", value)
        checkpoint.get_text_config()  # fails if there are several
    return checkpoint


def empty_model(checkpoint: Any) -> Any:
    """The model that a configuration describes, on torch's meta device."""
    import torch
    from transformers import AutoModelForImageTextToText

    def describe(error: BaseException) -> ModelError:
        return ModelError(
            f"transformers cannot load model type {checkpoint.model_type!r} for image and text "
            f"({short(error)[:120]}); name another --checkpoint"
        )

    with library_errors(describe), torch.device("meta"):
        return AutoModelForImageTextToText.from_config(checkpoint, **GIVEN)


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
