"""The model types that transformers loads for image and text, and what the family `auto` does with each.

The table in docs/models.md and the page of `vsp models --supported` are made of these values.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from vsp.errors import ModelError

# A test compares states and tokens of a small checkpoint with those of transformers alone.
TESTED = (
    "aria", "aya_vision", "chameleon", "deepseek_vl", "gemma3", "gemma4", "glm4v", "idefics2", "idefics3",
    "internvl", "janus", "llava", "llava_next", "llava_next_video", "llava_onevision", "mistral3", "ovis2",
    "paligemma", "qwen2_5_vl", "qwen2_vl", "qwen3_5", "qwen3_vl", "qwen3_vl_moe", "smolvlm",
    "video_llama_3", "vipllava",
)  # fmt: skip
# The decoder is found, and an image processor of Pillow exists. Nothing else is tested.
UNTESTED = (
    "cohere_compass", "cosmos3_edge", "deepseek_ocr2", "deepseek_vl_hybrid", "dots3_note", "emu3",
    "ernie4_5_vl_moe", "exaone4_5", "glm46v", "glm4v_moe", "glm5_next", "glm_ocr", "glmga",
    "got_ocr2", "granite4_vision", "granite_docling", "hunyuan_vl", "hyperclovax_vision_v2",
    "lighton_ocr", "minicpmv4_6", "mistral_large4", "minicpmv4_7", "paddleocr_vl", "pp_chart2table", "qianfan_ocr",
    "qwen3_5_moe", "shieldgemma2", "video_llava",
)  # fmt: skip
# As UNTESTED, but the processor exists for torchvision only.
UNTESTED_WITH_TORCHVISION = (
    "cohere2_vision", "gemma4_unified", "inkling2", "inkling_mm_model", "kimi_k25", "llama4",
    "minicpm_ocr", "minimax_m3_vl", "molmo2", "muse_glimmer",
    "muse_spark", "step3p7", "unlimited_ocr",
)  # fmt: skip
_CROSS = "its decoder reads the image by cross-attention, so the image is not part of the prompt"
_TIMM = "its vision tower is one of timm, with which vsp was not tested"
_ENCODER = "it is an encoder-decoder, and the image is in the encoder"
_NORM = "its decoder has no final norm of a known kind"
_PART = "transformers has no processor of images and text for it"
REFUSED: Mapping[str, str] = MappingProxyType(
    {
        "blip": _CROSS,
        "blip-2": _NORM,
        "cosmos3_omni": _PART,
        "diffusion_gemma": "it generates by diffusion, not token by token",
        "evolla": "it takes proteins, not images",
        "fast_vlm": _TIMM,
        "florence2": _ENCODER,
        "fuyu": _NORM,
        "gemma3n": "its decoder layers pass on several streams of states (AltUp) instead of one",
        "git": _NORM,
        "idefics": _CROSS,
        "instructblip": "its image features depend on the prompt",
        "instructblipvideo": "it takes videos, not images",
        "kosmos-2": _NORM,
        "kosmos-2.5": _NORM,
        "lfm2_vl": _NORM,
        "lfm3_vl": _NORM,
        "mistral4": "it takes no images",
        "mllama": _CROSS,
        "nemotron_h_omni": _NORM,
        "perception_lm": _TIMM,
        "pi0": "it predicts the actions of a robot",
        "pix2struct": _ENCODER,
        "pp_formulanet": _ENCODER,
        "qwen2_5_omni_thinker": _PART,
        "qwen3_omni_moe_thinker": _PART,
        "qwen4_exp": _NORM,
        "t5gemma2": _ENCODER,
        "udop": _ENCODER,
        "vision-encoder-decoder": _CROSS,
    }
)


def supported() -> dict[str, str]:
    """The treatment of each model type by vsp, sorted by name."""
    texts = {
        **dict.fromkeys(TESTED, "parity tested"),
        **dict.fromkeys(UNTESTED, "loads, untested"),
        **dict.fromkeys(UNTESTED_WITH_TORCHVISION, "loads with torchvision, untested"),
        **{name: f"refused because {reason}" for name, reason in REFUSED.items()},
    }
    return dict(sorted(texts.items()))


def check_type(model_type: str) -> None:
    """Raise ModelError, with the reason, for a model type that vsp refuses."""
    if model_type in REFUSED:
        raise ModelError(
            f"model type {model_type!r} is not supported: {REFUSED[model_type]}; choose a "
            "checkpoint of a type that `vsp models --supported` does not refuse"
        )


def check_part(checkpoint: Any) -> None:
    """Raise ModelError for a part of a model whose builder asks the hub, such as a tower of timm."""
    kind = str(getattr(checkpoint, "model_type", ""))
    if kind.startswith("timm"):
        raise ModelError(
            f"model type {kind!r} is not supported: {_TIMM}; choose another checkpoint"
        )
