"""Small checkpoints of more model families, with the files of their hub repositories.

Weights are random, texts are bytes. `preprocessor_config.json`, `processor_config.json` and the
file that holds the chat template are those that the family's repository has; so are the tokens
that its tokenizer puts before a text.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from helpers.tiny import QWEN_CHAT, QWEN_TOKENS, byte_tokenizer
from tokenizers import processors
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    InternVLConfig,
    InternVLForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PreTrainedTokenizerFast,
    Qwen3_5Config,
    Qwen3_5ForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.llava_next.image_processing_pil_llava_next import (
    LlavaNextImageProcessorPil,
)
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
    LlavaOnevisionImageProcessorPil,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

PATCH = 14
GRIDS = [[56, 112], [112, 56], [112, 112]]  # anyres: tiles of 56
# Widths are multiples of 64, the block of 4-bit quantisation.
TEXT = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 4096,
}  # fmt: skip
TOWER = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "patch_size": PATCH,
}  # fmt: skip

MISTRAL_CHAT = (
    "{% for turn in messages %}{% if turn['role'] == 'user' %}[INST] {% endif %}"
    "{% for part in turn['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% if turn['role'] == 'user' %} [/INST]{% endif %}{% endfor %}"
)
ONEVISION_CHAT = (
    "{% for turn in messages %}<|im_start|>{{ turn['role'] }} "
    "{% for part in turn['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ '\n' + part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# The language model's own template in `tokenizer_config.json`, for turns of plain text.
PLAIN_CHAT = "{% for turn in messages %}{{ turn['role'] + ': ' + turn['content'] }}\n{% endfor %}"
GEMMA_CHAT = (
    "{{ bos_token }}{% for turn in messages %}"
    "<start_of_turn>{{ 'model' if turn['role'] == 'assistant' else turn['role'] }}\n"
    "{% for part in turn['content'] %}"
    "{% if part['type'] == 'image' %}<start_of_image>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
INTERNVL_CHAT = (
    "{% for turn in messages %}<|im_start|>{{ turn['role'] }}\n"
    "{% for part in turn['content'] %}"
    "{% if part['type'] == 'image' %}<IMG_CONTEXT>\n{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
IDEFICS_CHAT = (
    "{{ bos_token }}{% for turn in messages %}{{ turn['role'] | capitalize }}:"
    "{% for part in turn['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %} {{ part['text'] }}{% endif %}"
    "{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)


def write_llava_next(folder: Path) -> Path:
    """CLIP and Mistral: 16 tokens for the image, and those of up to 4 tiles."""
    tokenizer = special_tokenizer(
        ("<pad>", "<s>", "</s>", "<image>"),
        bos_token="<s>",
        eos_token="</s>",
        extra_special_tokens={"image_token": "<image>"},
        starts_with="<s>",
        chat_template=PLAIN_CHAT,
    )
    config = LlavaNextConfig(
        vision_config={"model_type": "clip_vision_model", "image_size": 56, **TOWER},
        text_config={"model_type": "mistral", **text_settings(tokenizer)},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=GRIDS,
        image_seq_length=16,
    )
    save_model(LlavaNextForConditionalGeneration, config, folder)
    images = LlavaNextImageProcessorPil(
        size={"shortest_edge": 56},
        crop_size={"height": 56, "width": 56},
        image_grid_pinpoints=GRIDS,
    )
    save_parts(folder, tokenizer, images, "LlavaNextProcessor")
    write_json(folder / "chat_template.json", {"chat_template": MISTRAL_CHAT})
    settings = {
        "image_token": "<image>", "num_additional_image_tokens": 1, "patch_size": PATCH,
        "processor_class": "LlavaNextProcessor", "vision_feature_select_strategy": "default",
    }  # fmt: skip
    write_json(folder / "processor_config.json", settings)
    return folder


def write_llava_onevision(folder: Path) -> Path:
    """SigLIP and Qwen2: 16 tokens for the image, and those of up to 4 tiles."""
    tokenizer = special_tokenizer(
        ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<video>"),
        eos_token="<|im_end|>",
        extra_special_tokens={"image_token": "<image>", "video_token": "<video>"},
        chat_template=PLAIN_CHAT,
    )
    config = LlavaOnevisionConfig(
        vision_config={
            "model_type": "siglip_vision_model", "image_size": 56, "vision_use_head": False, **TOWER
        },
        text_config={"model_type": "qwen2", **text_settings(tokenizer)},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=GRIDS,
    )  # fmt: skip
    save_model(LlavaOnevisionForConditionalGeneration, config, folder)
    images = LlavaOnevisionImageProcessorPil(
        size={"height": 56, "width": 56}, image_grid_pinpoints=GRIDS
    )
    save_parts(folder, tokenizer, images, "LlavaOnevisionProcessor")
    write_json(folder / "chat_template.json", {"chat_template": ONEVISION_CHAT})
    settings = {
        "image_token": "<image>", "num_image_tokens": 16, "video_token": "<video>",
        "processor_class": "LlavaOnevisionProcessor", "vision_feature_select_strategy": "full",
    }  # fmt: skip
    write_json(folder / "processor_config.json", settings)
    write_video(folder, "LlavaOnevisionVideoProcessor", {"size": {"height": 56, "width": 56}})
    return folder


def write_paligemma(folder: Path) -> Path:
    """SigLIP and Gemma: 64 tokens for the image. No chat template, no processor_config.json."""
    tokenizer = special_tokenizer(
        ("<pad>", "<eos>", "<bos>", "<image>"),
        bos_token="<bos>",
        eos_token="<eos>",
        extra_special_tokens={"image_token": "<image>"},
    )
    text = {**text_settings(tokenizer), "head_dim": 32, "num_key_value_heads": 1}
    config = PaliGemmaConfig(
        vision_config={
            "model_type": "siglip_vision_model", "image_size": 112, "vision_use_head": False,
            **TOWER,
        },
        text_config={"model_type": "gemma", **text},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        projection_dim=64,
        hidden_size=64,
    )  # fmt: skip
    save_model(PaliGemmaForConditionalGeneration, config, folder)
    images = SiglipImageProcessorPil(size={"height": 112, "width": 112}, image_seq_length=64)
    save_parts(folder, tokenizer, images, "PaliGemmaProcessor")
    return folder


def write_gemma3(folder: Path) -> Path:
    """SigLIP and Gemma 3: 16 tokens for the image; 3 of 4 layers see the last 32 tokens."""
    extra = {
        "image_token": "<image_soft_token>",
        "boi_token": "<start_of_image>",
        "eoi_token": "<end_of_image>",
    }
    tokenizer = special_tokenizer(
        ("<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>", *extra.values()),
        bos_token="<bos>",
        eos_token="<eos>",
        extra_special_tokens=extra,
        starts_with="<bos>",
        chat_template=GEMMA_CHAT,
    )
    ids = {name: tokenizer.convert_tokens_to_ids(token) for name, token in extra.items()}
    text = {
        **text_settings(tokenizer), "head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 32,
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention",
                        "sliding_attention"],
    }  # fmt: skip
    config = Gemma3Config(
        vision_config={
            "model_type": "siglip_vision_model", "image_size": 112, "vision_use_head": False,
            **TOWER,
        },
        text_config=text,
        mm_tokens_per_image=16,
        image_token_index=ids["image_token"],
        boi_token_index=ids["boi_token"],
        eoi_token_index=ids["eoi_token"],
    )  # fmt: skip
    save_model(Gemma3ForConditionalGeneration, config, folder)
    images = Gemma3ImageProcessorPil(size={"height": 112, "width": 112})
    save_parts(folder, tokenizer, images, "Gemma3Processor")
    write_json(folder / "chat_template.json", {"chat_template": GEMMA_CHAT})
    settings = {"image_seq_length": 16, "processor_class": "Gemma3Processor"}
    write_json(folder / "processor_config.json", settings)
    return folder


def write_internvl(folder: Path) -> Path:
    """InternViT and Qwen2: 16 tokens for each tile, up to 4 tiles and the image."""
    extra = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    tokenizer = special_tokenizer(
        ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *extra.values()),
        eos_token="<|im_end|>",
        extra_special_tokens=extra,
        chat_template=INTERNVL_CHAT,  # goes to chat_template.jinja
    )
    tower = {**TOWER, "image_size": [112, 112], "patch_size": [PATCH, PATCH]}
    config = InternVLConfig(
        vision_config=tower,
        text_config={"model_type": "qwen2", **text_settings(tokenizer)},
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=16,
        tie_word_embeddings=False,
    )
    save_model(InternVLForConditionalGeneration, config, folder)
    images = GotOcr2ImageProcessorPil(size={"height": 112, "width": 112}, max_patches=4)
    save_parts(folder, tokenizer, images, "InternVLProcessor", jinja=True, fast=True)
    settings = {"image_seq_length": 16, "processor_class": "InternVLProcessor"}
    write_json(folder / "processor_config.json", settings)
    write_video(folder, "InternVLVideoProcessor", {"size": {"height": 112, "width": 112}})
    return folder


def write_idefics3(folder: Path) -> Path:
    """SigLIP and Llama: 4 tokens for each tile, up to 4 tiles and the image."""
    return _write_idefics(folder, "Idefics3", Idefics3ImageProcessorPil)


def write_smolvlm(folder: Path) -> Path:
    """As `write_idefics3`. transformers' own processor class needs the package num2words."""
    _write_idefics(folder, "SmolVLM", SmolVLMImageProcessorPil)
    write_video(folder, "SmolVLMVideoProcessor", {"size": {"longest_edge": 56}})
    return folder


def write_qwen3_vl(folder: Path) -> Path:
    """Qwen3-VL: up to 32 tokens for the image, and two layers of the tower feed decoder layers."""
    return _write_qwen3(
        folder, Qwen3VLConfig, Qwen3VLForConditionalGeneration, {"deepstack_visual_indexes": [0, 1]}
    )


def write_qwen3_5(folder: Path) -> Path:
    """Qwen3.5: as `write_qwen3_vl`, but 3 of 4 layers are recurrent."""
    heads = {
        "linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 16,
        "linear_num_value_heads": 32,
    }  # fmt: skip
    return _write_qwen3(folder, Qwen3_5Config, Qwen3_5ForConditionalGeneration, {}, heads)


def write_narrow(folder: Path, window: int) -> Path:
    """`write_llava_next`, with a Mistral whose attention window is `window` tokens."""
    write_llava_next(folder)
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["sliding_window"] = window
    write_json(folder / "config.json", config)
    return folder


def _write_qwen3(
    folder: Path,
    config: Callable[..., Any],
    model: Callable[[Any], Any],
    seen: dict[str, Any],
    read: dict[str, Any] | None = None,
) -> Path:
    tokenizer = special_tokenizer(QWEN_TOKENS, eos_token="<|im_end|>", chat_template=QWEN_CHAT)
    ids = {f"{name}_token_id": tokenizer.convert_tokens_to_ids(f"<|{token}|>") for name, token in
           (("image", "image_pad"), ("video", "video_pad"),
            ("vision_start", "vision_start"), ("vision_end", "vision_end"))}  # fmt: skip
    text = {
        **text_settings(tokenizer), "head_dim": 16, **(read or {}),
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0,
                            "partial_rotary_factor": 1.0,
                            "mrope_section": [4, 2, 2], "mrope_interleaved": True},
    }  # fmt: skip
    vision = {
        "depth": 2, "hidden_size": 64, "out_hidden_size": 64, "num_heads": 4,
        "intermediate_size": 128, "num_position_embeddings": 64, **seen,
    }  # fmt: skip
    save_model(model, config(text_config=text, vision_config=vision, **ids), folder)
    limits = {"shortest_edge": 64 * 64, "longest_edge": 32 * 32 * 32}
    half = [0.5, 0.5, 0.5]
    images = Qwen2VLImageProcessorPil(
        patch_size=16, size=limits, image_mean=half, image_std=half, merge_size=2
    )
    save_parts(folder, tokenizer, images, "Qwen3VLProcessor", fast=True)
    write_json(folder / "chat_template.json", {"chat_template": QWEN_CHAT})
    sizes = {"patch_size": 16, "merge_size": 2, "temporal_patch_size": 2, "size": limits}
    write_video(folder, "Qwen3VLVideoProcessor", sizes)
    return folder


def _write_idefics(folder: Path, family: str, image_processor: Callable[..., Any]) -> Path:
    tiles = tuple(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7))
    special = (
        "<pad>", "<|begin_of_text|>", "<end_of_utterance>", "<fake_token_around_image>",
        "<image>", "<global-img>", *tiles,
    )  # fmt: skip
    tokenizer = special_tokenizer(
        special,
        bos_token="<|begin_of_text|>",
        eos_token="<end_of_utterance>",
        starts_with="<|begin_of_text|>",
        chat_template=IDEFICS_CHAT,
    )
    kinds: dict[str, tuple[Any, Any]] = {
        "Idefics3": (Idefics3Config, Idefics3ForConditionalGeneration),
        "SmolVLM": (SmolVLMConfig, SmolVLMForConditionalGeneration),
    }
    config_class, model_class = kinds[family]
    config = config_class(
        vision_config={"image_size": 56, **TOWER},
        text_config={"model_type": "llama", **text_settings(tokenizer)},
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
    )
    save_model(model_class, config, folder)
    images = image_processor(size={"longest_edge": 112}, max_image_size={"longest_edge": 56})
    save_parts(folder, tokenizer, images, f"{family}Processor")
    write_json(folder / "chat_template.json", {"chat_template": IDEFICS_CHAT})
    settings = {"image_seq_len": 4, "processor_class": f"{family}Processor"}
    write_json(folder / "processor_config.json", settings)
    return folder


def special_tokenizer(
    special: tuple[str, ...], starts_with: str | None = None, **named: Any
) -> PreTrainedTokenizerFast:
    """`byte_tokenizer` with named special tokens; the first of `special` pads."""
    backend = byte_tokenizer(special).backend_tokenizer
    if starts_with is not None:
        backend.post_processor = processors.TemplateProcessing(
            single=f"{starts_with} $A",
            special_tokens=[(starts_with, backend.token_to_id(starts_with))],
        )
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token=special[0], **named)


def text_settings(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    names = ("pad_token_id", "bos_token_id", "eos_token_id")
    ids = {name: getattr(tokenizer, name) for name in names}
    return {**TEXT, "vocab_size": len(tokenizer), **ids}


def save_model(kind: Callable[[Any], Any], config: Any, folder: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = kind(config)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    if (
                        not parameter.any()
                    ):  # Gemma 3's projector: otherwise the image would have no effect
                        parameter.normal_(std=0.02)
                    parameter.mul_(4)  # states of order 1, so that 1e-4 is a meaningful tolerance
    model.save_pretrained(folder)


def save_parts(
    folder: Path,
    tokenizer: PreTrainedTokenizerFast,
    images: Any,
    processor: str,
    jinja: bool = False,
    fast: bool = False,
) -> None:
    """Tokenizer and image processor. jinja: the template in a file; fast: the newer class name."""
    tokenizer.save_pretrained(folder, save_jinja_files=jinja)
    images.save_pretrained(folder)
    path = folder / "preprocessor_config.json"
    settings = json.loads(path.read_text())
    name = type(images).__name__.removesuffix("Pil")
    settings["image_processor_type"] = f"{name}Fast" if fast else name
    write_json(path, {**settings, "processor_class": processor})


def write_video(folder: Path, kind: str, settings: dict[str, Any]) -> None:
    """The file of a video processor, which cannot be built without torchvision."""
    processor = kind.replace("VideoProcessor", "Processor")
    path = folder / "video_preprocessor_config.json"
    write_json(path, {**settings, "video_processor_type": kind, "processor_class": processor})


def write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")


WRITERS: dict[str, Callable[[Path], Path]] = {
    "llava_next": write_llava_next,
    "llava_onevision": write_llava_onevision,
    "paligemma": write_paligemma,
    "gemma3": write_gemma3,
    "internvl": write_internvl,
    "idefics3": write_idefics3,
    "qwen3_vl": write_qwen3_vl,
    "qwen3_5": write_qwen3_5,
}
