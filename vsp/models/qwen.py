"""Qwen2-VL (Wang et al. 2024, arXiv:2409.12191) and Qwen2.5-VL through transformers."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from vsp.config import Frozen, ModelConfig
from vsp.models.auto import AutoVLM
from vsp.models.auto_processor import AutoProcessor


class QwenOptions(Frozen):
    """Limits of the image size in pixels; None: the checkpoint's own."""

    min_pixels: Annotated[int, Field(ge=1)] | None = None
    max_pixels: Annotated[int, Field(ge=1)] | None = None


class QwenProcessor(AutoProcessor):
    model_types: ClassVar = ("qwen2_vl", "qwen2_5_vl")
    options: ClassVar = QwenOptions


class Qwen2VL(AutoVLM):
    """Qwen2-VL with the checkpoint's own chat template."""

    defaults: ClassVar = ModelConfig(
        family="qwen2", checkpoint="Qwen/Qwen2-VL-7B-Instruct", quantization="4bit"
    )
    processor: ClassVar = QwenProcessor
