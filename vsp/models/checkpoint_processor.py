"""Builds the processor of images and text of a checkpoint, each part by its name.

Parts for video and audio are left out: they need torchvision or an audio library, and vsp gives them
nothing to do. Images are always resized by Pillow, so that every machine gets the same pixels.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vsp.config import ModelConfig
from vsp.errors import ModelError
from vsp.models.checkpoints import reading
from vsp.models.hub import local_folder
from vsp.models.library_errors import hidden_panics
from vsp.utils.reading import read_json

# The number of tokens that a vision tower puts before those of its patches.
_CLASS_TOKENS = {"clip_vision_model": 1, "siglip_vision_model": 0}
_LLAVA_TYPES = ("llava", "vipllava", "llava_next", "llava_next_video")
_PARTS = "tokenizer or image processor"
# Files that may name the processor's class, in the order in which transformers reads them.
_NAMING_FILES = ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json")


def read_processor(config: ModelConfig, checkpoint: Any, options: Mapping[str, Any]) -> Any:
    """The checkpoint's processor; `options` are passed to its image processor.

    Raises ModelError if transformers has none for the model type, or if torchvision is missing.
    """
    folder = local_folder(config)
    base: Any = _processor_class(folder, checkpoint)
    with reading(config, _PARTS), _torchvision_errors(checkpoint), hidden_panics():
        parts = {name: _read_part(folder, name, options) for name in base.get_attributes()}

    class OfImageAndText(base):
        def check_argument_for_proper_class(self, name: str, part: Any) -> Any:
            return None if part is None else super().check_argument_for_proper_class(name, part)

    OfImageAndText.__name__ = base.__name__  # processors look up their defaults by name
    with reading(config, _PARTS):
        values, _ = base.get_processor_dict(str(folder), trust_remote_code=False)
        values |= _feature_settings(checkpoint)
    known = inspect.signature(base.__init__).parameters.keys() - parts.keys()
    settings = {key: value for key, value in values.items() if key in known}
    with reading(config, _PARTS), _no_num2words(base):
        return OfImageAndText(**parts, **settings)


def _processor_class(folder: Path, checkpoint: Any) -> Any:
    """The class that the checkpoint's files name; otherwise that of its model type."""
    import transformers
    from transformers.models.auto import processing_auto

    by_type: Mapping[str, str] = vars(processing_auto)["PROCESSOR_MAPPING_NAMES"]
    named = next(filter(None, (_named_class(folder / file) for file in _NAMING_FILES)), None)
    name = (
        named
        if isinstance(named, str) and named in by_type.values()
        else by_type.get(checkpoint.model_type)
    )
    if name is None or not hasattr(checkpoint, "image_token_id"):
        raise ModelError(
            f"transformers has no processor of images and text for model type "
            f"{checkpoint.model_type!r}; "
            "name another --checkpoint"
        )
    if name == "PixtralProcessor":
        from vsp.models.pixtral_processor import PixtralProcessor

        return PixtralProcessor
    return getattr(transformers, name)


def _named_class(path: Path) -> Any:
    """The class that a file names; None if there is no such file, or if it is damaged."""
    try:
        values = read_json(path)
    except (OSError, ValueError, RecursionError):
        return None  # said by whoever reads the part
    return values.get("processor_class") if isinstance(values, dict) else None


def _read_part(folder: Path, name: str, options: Mapping[str, Any]) -> Any:
    """A part of the processor; None for one that images and text do not need."""
    from transformers import AutoImageProcessor, AutoTokenizer

    if name == "image_processor":
        # If torchvision is installed, the default processor is another one, with other pixels.
        return AutoImageProcessor.from_pretrained(
            folder, backend="pil", trust_remote_code=False, **options
        )
    if name == "tokenizer":
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    return None


def _feature_settings(checkpoint: Any) -> dict[str, Any]:
    """Settings from which a processor of LLaVA counts image tokens, as the model counts them.

    They are missing in older checkpoints, and some checkpoints have those of another vision tower.
    """
    if checkpoint.model_type not in _LLAVA_TYPES:
        return {}
    tower = checkpoint.vision_config
    settings = {
        "patch_size": tower.patch_size,
        # VipLLaVA's model has no setting; it leaves out the class token.
        "vision_feature_select_strategy": getattr(
            checkpoint, "vision_feature_select_strategy", "default"
        ),
    }
    if tower.model_type in _CLASS_TOKENS:
        settings["num_additional_image_tokens"] = _CLASS_TOKENS[tower.model_type]
    return settings


@contextmanager
def _torchvision_errors(checkpoint: Any) -> Iterator[None]:
    """Turn an error about a missing torchvision into a ModelError.

    transformers raises ImportError or ValueError, depending on the name that the files give.
    """
    from transformers.utils.import_utils import is_torchvision_available

    try:
        yield
    except (ImportError, ValueError) as error:
        if is_torchvision_available() or "torchvision" not in str(error).lower():
            raise
        raise ModelError(
            f"the image processor of model type {checkpoint.model_type!r} needs torchvision; "
            "install torchvision"
        ) from None


@contextmanager
def _no_num2words(base: Any) -> Iterator[None]:
    """Build SmolVLM's processor without the package num2words, which it needs for videos only."""
    module = sys.modules[base.__module__]
    if getattr(module, "num2words", True):
        yield
        return
    vars(module)["num2words"] = str
    try:
        yield
    finally:
        vars(module)["num2words"] = None
