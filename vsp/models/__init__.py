"""Vision-language models. A family is one file and one line of the table.

`vsp.models.contract` says what a family has to implement.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vsp.config import ModelConfig, parse
from vsp.errors import ModelError
from vsp.models.contract import (
    Loaded,
    ModelShape,
    Processor,
    TowerShape,
    VisionLanguageModel,
)
from vsp.models.library_notes import leave_out_notes
from vsp.utils.registry import Registry

FAMILIES = Registry(
    "model",
    "vsp.models",
    {
        "llava15": "vsp.models.llava:Llava15",
        "qwen2": "vsp.models.qwen:Qwen2VL",
        "spatialrgpt": "vsp.models.spatialrgpt:SpatialRGPT",
        "auto": "vsp.models.auto:AutoVLM",
        "fake": "vsp.models.fake:Fake",
    },
)


def resolve(family: str, **changes: Any) -> ModelConfig:
    """The family's default configuration with every change that is not None; options are merged."""
    return apply_changes(load_family(family).defaults, family, changes)


def apply_changes(base: ModelConfig, name: str, changes: Mapping[str, Any]) -> ModelConfig:
    """`base` with every change that is not None; options are merged. `name` is for errors."""
    given = {key: value for key, value in changes.items() if value is not None}
    given["options"] = {**base.options, **given.get("options", {})}
    return parse(ModelConfig, {**base.model_dump(), **given}, f"model {name}")


def load_family(name: str) -> type[VisionLanguageModel]:
    """The class of a family. Raises ConfigError, listing the known names, if there is none."""
    leave_out_notes()
    family: type[VisionLanguageModel] = FAMILIES.load(name)
    return family


def region_marker(config: ModelConfig) -> str:
    """The text that stands for a region in a prompt; empty if the model is asked by names."""
    return load_family(config.family).region_marker(config)


def shape(config: ModelConfig) -> ModelShape:
    """Layers, hidden size and dtype, from the checkpoint's configuration."""
    return load_family(config.family).shape(config)


def tower_shape(config: ModelConfig) -> TowerShape:
    """Layers and width of the vision tower. Raises ModelError if its states cannot be recorded."""
    return load_family(config.family).tower_shape(config)


def check(config: ModelConfig) -> Processor:
    """Raise ModelError if a part of the checkpoint is missing or unreadable; its processor."""
    family = load_family(config.family)
    if config.adapter is not None and not family.takes_adapter:
        raise ModelError(
            f"model {config.family}: takes no --adapter; merge the adapter into the checkpoint"
        )
    _check_weights(config, family)
    family.check(config)
    processor = read_processor(config)
    if config.checkpoint is not None:
        from vsp.models.processor_trial import try_processor

        try_processor(config, processor)
    return processor


def has_head(config: ModelConfig) -> bool:
    """Whether the checkpoint has the head that predicts tokens, which answers need."""
    return load_family(config.family).has_head(config)


def read_processor(config: ModelConfig) -> Processor:
    """The family's processor. Raises ModelError if the checkpoint's cannot be read."""
    return load_family(config.family).processor(config)


def read_model(config: ModelConfig, devices: Sequence[str] = ()) -> VisionLanguageModel:
    """The family's model with its weights, split over `devices` if any are named.

    Raises ModelError if the weights cannot be used.
    """
    family = load_family(config.family)
    _check_weights(config, family)
    return family(config, devices) if devices else family(config)


def _check_weights(config: ModelConfig, family: type[VisionLanguageModel]) -> None:
    """Raise ModelError if random weights are asked for and the family has none."""
    if config.weights == "random" and not family.has_untrained:
        raise ModelError(
            f"model {config.family}: --weights random is not supported; use the checkpoint's weights"
        )


def load(config: ModelConfig, devices: Sequence[str] = ()) -> Loaded:
    """Processor and model, ready to use."""
    return Loaded(read_processor(config), read_model(config, devices))
