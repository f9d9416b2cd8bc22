"""LLaVA-1.5 (Liu et al. 2024, arXiv:2310.03744) through transformers."""

from __future__ import annotations

from typing import ClassVar

from vsp.config import ModelConfig
from vsp.models.auto import AutoVLM
from vsp.models.auto_processor import AutoProcessor


class LlavaProcessor(AutoProcessor):
    model_types: ClassVar = ("llava",)


class Llava15(AutoVLM):
    """LLaVA-1.5 with its conversation, without the system sentence."""

    defaults: ClassVar = ModelConfig(
        family="llava15",
        checkpoint="llava-hf/llava-1.5-7b-hf",
        template="USER: <image>\n{instruction}\nASSISTANT:",
        quantization="4bit",
    )
    processor: ClassVar = LlavaProcessor
