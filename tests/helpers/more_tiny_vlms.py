"""Small checkpoints of further families, as in `tiny_vlms`: one function writes one family."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import transformers
from helpers.tiny import QWEN_CHAT, QWEN_TOKENS
from helpers.tiny_vlms import (
    GRIDS,
    IDEFICS_CHAT,
    INTERNVL_CHAT,
    ONEVISION_CHAT,
    PATCH,
    TOWER,
    save_model,
    save_parts,
    special_tokenizer,
    text_settings,
    write_json,
    write_video,
)
from transformers.models.aria.image_processing_pil_aria import AriaImageProcessorPil
from transformers.models.chameleon.image_processing_pil_chameleon import ChameleonImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.deepseek_vl.image_processing_pil_deepseek_vl import (
    DeepseekVLImageProcessorPil,
)
from transformers.models.gemma4.image_processing_pil_gemma4 import Gemma4ImageProcessorPil
from transformers.models.glm4v.image_processing_pil_glm4v import Glm4vImageProcessorPil
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.idefics2.image_processing_pil_idefics2 import Idefics2ImageProcessorPil
from transformers.models.janus.image_processing_pil_janus import JanusImageProcessorPil
from transformers.models.llava_next.image_processing_pil_llava_next import (
    LlavaNextImageProcessorPil,
)
from transformers.models.ovis2.image_processing_pil_ovis2 import Ovis2ImageProcessorPil
from transformers.models.pixtral.image_processing_pil_pixtral import PixtralImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.video_llama_3.image_processing_pil_video_llama_3 import (
    VideoLlama3ImageProcessorPil,
)

LLAMA = ("<pad>", "<s>", "</s>", "<image>")
CHATML = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>")
SIGLIP = {
    "model_type": "siglip_vision_model", "image_size": 112, "vision_use_head": False, **TOWER,
}  # fmt: skip
CHATML_CHAT = INTERNVL_CHAT.replace("<IMG_CONTEXT>", "<image>")
VICUNA_CHAT = (
    "{% for turn in messages %}{% if turn['role'] == 'user' %}USER: {% endif %}"
    "{% for part in turn['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %} ASSISTANT:{% endif %}"
)
AYA_CHAT = (
    "{{ bos_token }}{% for turn in messages %}<|START_OF_TURN_TOKEN|><|USER_TOKEN|>"
    "{% for part in turn['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|END_OF_TURN_TOKEN|>{% endfor %}"
    "{% if add_generation_prompt %}<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>{% endif %}"
)
DEEPSEEK_CHAT = (
    "{% for turn in messages %}User: {% for part in turn['content'] %}"
    "{% if part['type'] == 'image' %}<image_placeholder>{% else %}{{ '\n' + part['text'] }}"
    "{% endif %}{% endfor %}{{ '\n\n' }}{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)
GLM_CHAT = (
    "[gMASK]<sop>\n{% for turn in messages %}<|user|>\n{% for part in turn['content'] %}"
    "{% if part['type'] == 'image' %}<|begin_of_image|><|image|><|end_of_image|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
CHAMELEON_CHAT = (
    "{{ bos_token }}{% for turn in messages %}{% for part in turn['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endfor %}"
)
PIXTRAL_CHAT = (
    "{{ bos_token }}{% for turn in messages %}[INST]{% for part in turn['content'] %}"
    "{% if part['type'] == 'image' %}[IMG]{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}[/INST]{% endfor %}"
)
_PIXTRAL_TOWER = {**TOWER, "image_size": 112, "patch_size": 16}
GEMMA4_CHAT = (
    "{{ bos_token }}{% for turn in messages %}<|turn>user\n{% for part in turn['content'] %}"
    "{% if part['type'] == 'image' %}{{ '\n\n<|image|>\n\n' }}{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<turn|>\n{% endfor %}{% if add_generation_prompt %}<|turn>model\n{% endif %}"
)


def write_llava_siglip(folder: Path) -> Path:
    """LLaVA-Interleave: SigLIP, which has no class token, and Qwen2; 64 tokens for the image."""
    tokenizer = special_tokenizer(
        CHATML, eos_token="<|im_end|>", extra_special_tokens={"image_token": "<image>"}
    )
    config = transformers.LlavaConfig(
        vision_config=SIGLIP,
        text_config={"model_type": "qwen2", **text_settings(tokenizer)},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        image_seq_length=64,
    )
    settings = {
        "image_token": "<image>", "num_additional_image_tokens": 0, "patch_size": PATCH,
        "vision_feature_select_strategy": "full",
    }  # fmt: skip
    images = SiglipImageProcessorPil(size={"height": 112, "width": 112})
    return _save(folder, config, tokenizer, images, "LlavaProcessor", ONEVISION_CHAT, settings)


def write_vipllava(folder: Path) -> Path:
    """CLIP, of which five layers are joined, and Llama: 16 tokens for the image."""
    tokenizer = _llama_tokenizer()
    config = transformers.VipLlavaConfig(
        vision_config={"model_type": "clip_vision_model", "image_size": 56, **TOWER},
        text_config={"model_type": "llama", **text_settings(tokenizer)},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layers=[-1, -2, -3, 0, 1],
    )
    images = CLIPImageProcessorPil(
        size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56}
    )
    settings = {
        "num_additional_image_tokens": 1, "patch_size": PATCH,
        "vision_feature_select_strategy": "default",
    }  # fmt: skip
    return _save(folder, config, tokenizer, images, "LlavaProcessor", VICUNA_CHAT, settings)


def write_llava_next_video(folder: Path) -> Path:
    """LLaVA-NeXT-Video: for an image as LLaVA-NeXT. Its processor takes the video part first."""
    tokenizer = _llama_tokenizer("<video>", extra={"video_token": "<video>"})
    config = transformers.LlavaNextVideoConfig(
        vision_config={"model_type": "clip_vision_model", "image_size": 56, **TOWER},
        text_config={"model_type": "llama", **text_settings(tokenizer)},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=GRIDS,
        image_seq_length=16,
    )
    images = LlavaNextImageProcessorPil(
        size={"shortest_edge": 56},
        crop_size={"height": 56, "width": 56},
        image_grid_pinpoints=GRIDS,
    )
    settings = {"patch_size": PATCH, "vision_feature_select_strategy": "default"}
    _save(folder, config, tokenizer, images, "LlavaNextVideoProcessor", VICUNA_CHAT, settings)
    write_video(folder, "LlavaNextVideoVideoProcessor", {"size": {"shortest_edge": 56}})
    return folder


def write_idefics2(folder: Path) -> Path:
    """SigLIP, a perceiver and Mistral: 8 tokens for the image in its own aspect ratio."""
    tokenizer = special_tokenizer(
        ("<unk>", "<s>", "</s>", "<fake_token_around_image>", "<image>", "<end_of_utterance>"),
        bos_token="<s>",
        eos_token="</s>",
        starts_with="<s>",
    )
    config = transformers.Idefics2Config(
        vision_config={"image_size": 112, **TOWER},
        perceiver_config={
            "hidden_size": 64, "resampler_n_latents": 8, "resampler_depth": 2,
            "resampler_n_heads": 4, "resampler_head_dim": 16, "num_key_value_heads": 2,
        },
        text_config={"model_type": "mistral", **text_settings(tokenizer)},
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
    )  # fmt: skip
    images = Idefics2ImageProcessorPil(
        do_image_splitting=False, size={"shortest_edge": 56, "longest_edge": 112}
    )
    chat = IDEFICS_CHAT.replace("{{ bos_token }}", "")
    settings = {"image_seq_len": 8}
    return _save(folder, config, tokenizer, images, "Idefics2Processor", chat, settings)


def write_aria(folder: Path) -> Path:
    """SigLIP, a query transformer, and a decoder of experts: 8 tokens for the image."""
    tokenizer = special_tokenizer(
        ("<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<image>"),
        eos_token="</s>",
        extra_special_tokens={"image_token": "<image>"},
    )
    text = {**text_settings(tokenizer), "moe_num_experts": 4, "moe_topk": 2}
    config = transformers.AriaConfig(
        vision_config={
            "model_type": "idefics3_vision", **TOWER, "image_size": 980, "patch_size": 98,
        },
        text_config={**text, "moe_num_shared_experts": 1, "intermediate_size": 64},
        projector_patch_to_query_dict={100: 8},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )  # fmt: skip
    # transformers always uses images of 980.
    settings = {"size_conversion": {"980": 8}}
    images = AriaImageProcessorPil(max_image_size=980, min_image_size=336)
    return _save(folder, config, tokenizer, images, "AriaProcessor", CHATML_CHAT, settings)


def write_ovis2(folder: Path) -> Path:
    """Its own tower, whose features choose from a visual vocabulary, and Qwen2."""
    marks = ("<IMG_ATOM>", "<IMG_START>", "<IMG_GRID>", "<IMG_COL>", "<IMG_ROW>", "<IMG_END>")
    tokenizer = special_tokenizer((*CHATML, *marks), eos_token="<|im_end|>")
    ids = tokenizer.convert_tokens_to_ids(list(marks))
    config = transformers.Ovis2Config(
        vision_config={
            **TOWER, "image_size": 112, "hidden_stride": 2, "vocab_size": 64,
            "num_visual_indicator_tokens": 5,
        },
        text_config={"model_type": "qwen2", **text_settings(tokenizer)},
        image_token_id=ids[0],
        visual_indicator_token_ids=ids[1:],
        vocab_size=len(tokenizer),
        hidden_size=64,
    )  # fmt: skip
    images = Ovis2ImageProcessorPil(
        size={"height": 112, "width": 112}, crop_to_patches=True, max_patches=4
    )
    settings = {"image_token": "<image>", "image_seq_length": 16}
    return _save(folder, config, tokenizer, images, "Ovis2Processor", CHATML_CHAT, settings)


def write_aya_vision(folder: Path) -> Path:
    """SigLIP and Cohere2: 16 tokens for each tile, up to 4 tiles and the image."""
    marks = ("<|START_OF_IMG|>", "<|END_OF_IMG|>", "<|IMG_PATCH|>", "<|IMG_LINE_BREAK|>")
    turns = ("<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|USER_TOKEN|>")
    tiles = ("<|CHATBOT_TOKEN|>", "TILE_GLOBAL", *(f"TILE_{i}" for i in range(1, 5)))
    tokenizer = special_tokenizer(
        ("<PAD>", "<BOS_TOKEN>", "<image>", *marks, *turns, *tiles),
        bos_token="<BOS_TOKEN>",
        eos_token="<|END_OF_TURN_TOKEN|>",
        starts_with="<BOS_TOKEN>",
    )
    config = transformers.AyaVisionConfig(
        vision_config=SIGLIP,
        text_config={
            "model_type": "cohere2", **text_settings(tokenizer), "sliding_window": 64,
        },
        image_token_index=tokenizer.convert_tokens_to_ids("<|IMG_PATCH|>"),
        downsample_factor=2,
    )  # fmt: skip
    images = GotOcr2ImageProcessorPil(
        size={"height": 112, "width": 112}, crop_to_patches=True, max_patches=4
    )
    settings = {"img_size": 112, "patch_size": PATCH, "downsample_factor": 2}
    return _save(folder, config, tokenizer, images, "AyaVisionProcessor", AYA_CHAT, settings)


def write_deepseek_vl(folder: Path) -> Path:
    """SigLIP and Llama: 64 tokens for the padded image."""
    tokenizer = _deepseek_tokenizer()
    config = transformers.DeepseekVLConfig(
        vision_config=SIGLIP,
        text_config={"model_type": "llama", **text_settings(tokenizer)},
        image_token_id=tokenizer.convert_tokens_to_ids("<image_placeholder>"),
    )
    images = DeepseekVLImageProcessorPil(size={"height": 112, "width": 112})
    settings = {"num_image_tokens": 64}
    return _save(folder, config, tokenizer, images, "DeepseekVLProcessor", DEEPSEEK_CHAT, settings)


def write_janus(folder: Path) -> Path:
    """Janus: its tower for understanding and Llama; the part that draws images is not used."""
    tokenizer = _deepseek_tokenizer()
    tower = {name: value for name, value in TOWER.items() if name != "intermediate_size"}
    config = transformers.JanusConfig(
        vision_config={
            **tower, "image_size": 112, "projection_dim": 64, "num_image_tokens": 64,
        },
        vq_config={
            "embed_dim": 8, "num_embeddings": 32, "base_channels": 32, "latent_channels": 32,
            "channel_multiplier": [1, 1], "num_res_blocks": 1, "projection_dim": 64,
            "image_token_embed_dim": 64, "num_patches": 16,
        },
        text_config={"model_type": "llama", **text_settings(tokenizer)},
        image_token_id=tokenizer.convert_tokens_to_ids("<image_placeholder>"),
    )  # fmt: skip
    images = JanusImageProcessorPil(size={"height": 112, "width": 112})
    settings = {"num_image_tokens": 64, "use_default_system_prompt": False}
    return _save(folder, config, tokenizer, images, "JanusProcessor", DEEPSEEK_CHAT, settings)


def write_glm4v(folder: Path) -> Path:
    """GLM-4.1V: up to 16 tokens for the image in its own aspect ratio."""
    named = ("begin_of_image", "image", "end_of_image", "begin_of_video", "video", "end_of_video")
    tokenizer = special_tokenizer(
        ("<|endoftext|>", "[gMASK]", "<sop>", "<|user|>", "<|assistant|>",
         *(f"<|{name}|>" for name in named)),
        eos_token="<|endoftext|>",
    )  # fmt: skip
    ids = [tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in named]
    config = transformers.Glm4vConfig(
        vision_config={
            "depth": 2, "hidden_size": 64, "num_heads": 4, "image_size": 112,
            "patch_size": PATCH, "out_hidden_size": 64, "intermediate_size": 128,
        },
        text_config={
            **text_settings(tokenizer),
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0,
                                "partial_rotary_factor": 0.5, "mrope_section": [2, 1, 1]},
        },
        image_start_token_id=ids[0], image_token_id=ids[1], image_end_token_id=ids[2],
        video_start_token_id=ids[3], video_token_id=ids[4], video_end_token_id=ids[5],
    )  # fmt: skip
    sizes = {"shortest_edge": 56 * 56, "longest_edge": 112 * 112 * 2}
    _save(folder, config, tokenizer, Glm4vImageProcessorPil(size=sizes), "Glm4vProcessor", GLM_CHAT)
    write_video(folder, "Glm4vVideoProcessor", {"size": sizes})
    return folder


def write_qwen3_vl_moe(folder: Path) -> Path:
    """Qwen3-VL with experts: every layer of the decoder has four, of which two are used."""
    tokenizer = special_tokenizer(QWEN_TOKENS, eos_token="<|im_end|>")
    ids = {f"{name}_token_id": tokenizer.convert_tokens_to_ids(f"<|{token}|>") for name, token in
           (("image", "image_pad"), ("video", "video_pad"),
            ("vision_start", "vision_start"), ("vision_end", "vision_end"))}  # fmt: skip
    text = {
        **text_settings(tokenizer), "head_dim": 16, "moe_intermediate_size": 64,
        "num_experts": 4, "num_experts_per_tok": 2,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0,
                            "mrope_section": [4, 2, 2], "mrope_interleaved": True},
    }  # fmt: skip
    vision = {
        "depth": 2, "hidden_size": 64, "out_hidden_size": 64, "num_heads": 4,
        "intermediate_size": 128, "num_position_embeddings": 64,
        "deepstack_visual_indexes": [0, 1],
    }  # fmt: skip
    config = transformers.Qwen3VLMoeConfig(text_config=text, vision_config=vision, **ids)
    limits = {"shortest_edge": 64 * 64, "longest_edge": 32 * 32 * 32}
    half = [0.5, 0.5, 0.5]
    images = Qwen2VLImageProcessorPil(
        patch_size=16, size=limits, image_mean=half, image_std=half, merge_size=2
    )
    _save(folder, config, tokenizer, images, "Qwen3VLProcessor", QWEN_CHAT)
    sizes = {"patch_size": 16, "merge_size": 2, "temporal_patch_size": 2, "size": limits}
    write_video(folder, "Qwen3VLVideoProcessor", sizes)
    return folder


def write_gemma4(folder: Path) -> Path:
    """Gemma 4: a tower for any aspect ratio; every layer has its own embedding of each token."""
    named = {
        "image_token": "<|image|>", "boi_token": "<|image>", "eoi_token": "<image|>",
        "audio_token": "<|audio|>", "boa_token": "<|audio>", "eoa_token": "<audio|>",
    }  # fmt: skip
    tokenizer = special_tokenizer(
        ("<pad>", "<eos>", "<bos>", "<|turn>", "<turn|>", "<|video|>", *named.values()),
        bos_token="<bos>",
        eos_token="<eos>",
        extra_special_tokens=named,
        starts_with="<bos>",
    )
    ids = {f"{name}_id": tokenizer.convert_tokens_to_ids(token) for name, token in named.items()}
    ids["eoa_token_index"] = ids.pop("eoa_token_id")
    text = {
        **text_settings(tokenizer), "head_dim": 16, "global_head_dim": 16, "sliding_window": 64,
        "vocab_size_per_layer_input": len(tokenizer), "hidden_size_per_layer_input": 16,
        "layer_types": ["sliding_attention", "sliding_attention", "sliding_attention",
                        "full_attention"],
    }  # fmt: skip
    config = transformers.Gemma4Config(
        vision_config={
            "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 16,
            "patch_size": 16, "pooling_kernel_size": 2, "position_embedding_size": 64,
        },
        text_config=text,
        audio_config=None,
        video_token_id=tokenizer.convert_tokens_to_ids("<|video|>"),
        **ids,
    )  # fmt: skip
    images = Gemma4ImageProcessorPil(patch_size=16, max_soft_tokens=70, pooling_kernel_size=2)
    _save(folder, config, tokenizer, images, "Gemma4Processor", GEMMA4_CHAT)
    return folder


def write_video_llama_3(folder: Path) -> Path:
    """VideoLLaMA3: its own tower and Qwen2; up to 32 tokens for the image."""
    named = {"image_token": "<image>", "video_token": "<video>"}
    tokenizer = special_tokenizer(
        (*CHATML, "<video>"), eos_token="<|im_end|>", extra_special_tokens=named
    )
    config = transformers.VideoLlama3Config(
        vision_config=TOWER,
        text_config={"model_type": "qwen2", **text_settings(tokenizer)},
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<video>"),
    )
    sizes = {"shortest_edge": 56 * 56, "longest_edge": 112 * 112}
    images = VideoLlama3ImageProcessorPil(size=sizes)
    _save(folder, config, tokenizer, images, "VideoLlama3Processor", CHATML_CHAT)
    write_video(folder, "VideoLlama3VideoProcessor", {"size": sizes})
    return folder


def write_pixtral(folder: Path) -> Path:
    """Pixtral, saved as LLaVA: an image token for each patch, in its own aspect ratio."""
    tokenizer = _pixtral_tokenizer()
    config = transformers.LlavaConfig(
        vision_config={"model_type": "pixtral", **_PIXTRAL_TOWER},
        text_config={"model_type": "mistral", **text_settings(tokenizer)},
        image_token_index=tokenizer.convert_tokens_to_ids("[IMG]"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )
    images = PixtralImageProcessorPil(
        size={"longest_edge": 112}, patch_size={"height": 16, "width": 16}
    )
    return _save(
        folder, config, tokenizer, images, "PixtralProcessor", PIXTRAL_CHAT, {"patch_size": 16}
    )


def write_mistral3(folder: Path) -> Path:
    """Mistral 3: Pixtral's tower, of which each token joins four patches, and Mistral."""
    tokenizer = _pixtral_tokenizer()
    config = transformers.Mistral3Config(
        vision_config={"model_type": "pixtral", **_PIXTRAL_TOWER, "patch_size": PATCH},
        text_config={"model_type": "mistral", **text_settings(tokenizer)},
        image_token_index=tokenizer.convert_tokens_to_ids("[IMG]"),
        spatial_merge_size=2,
    )
    images = PixtralImageProcessorPil(size={"longest_edge": 112}, patch_size=PATCH)
    settings = {"patch_size": PATCH, "spatial_merge_size": 2}
    return _save(folder, config, tokenizer, images, "PixtralProcessor", PIXTRAL_CHAT, settings)


def write_chameleon(folder: Path) -> Path:
    """Chameleon: its decoder encodes the image to 16 tokens of its own vocabulary."""
    codes = tuple(f"IMGIMG{letter}Z" for letter in "ABCDEFGH")
    named = {
        "image_token": "<image>", "boi_token": "<racm3:break>", "eoi_token": "<eoss>",
        "sep_token": "<reserved08706>",
    }  # fmt: skip
    tokenizer = special_tokenizer(
        ("<pad>", "<s>", "</s>", *(named[name] for name in named), *codes),
        bos_token="<s>",
        eos_token="</s>",
        sep_token=named.pop("sep_token"),
        extra_special_tokens=named,
        starts_with="<s>",
    )
    config = transformers.ChameleonConfig(
        **text_settings(tokenizer),
        vq_config={
            "embed_dim": 8, "num_embeddings": 8, "latent_channels": 32, "resolution": 32,
            "base_channels": 32, "channel_multiplier": [1, 1, 1, 1], "num_res_blocks": 1,
        },
        vocabulary_map={**dict(tokenizer.get_vocab())},
    )  # fmt: skip
    images = ChameleonImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    settings = {"image_seq_length": 16, "image_token": "<image>"}
    return _save(folder, config, tokenizer, images, "ChameleonProcessor", CHAMELEON_CHAT, settings)


def _pixtral_tokenizer() -> Any:
    return special_tokenizer(
        ("<pad>", "<s>", "</s>", "[INST]", "[/INST]", "[IMG]", "[IMG_BREAK]", "[IMG_END]"),
        bos_token="<s>",
        eos_token="</s>",
        starts_with="<s>",
    )


def _llama_tokenizer(*special: str, extra: dict[str, str] | None = None) -> Any:
    return special_tokenizer(
        (*LLAMA, *special),
        bos_token="<s>",
        eos_token="</s>",
        extra_special_tokens={"image_token": "<image>", **(extra or {})},
        starts_with="<s>",
    )


def _deepseek_tokenizer() -> Any:
    named = {
        "image_token": "<image_placeholder>", "boi_token": "<begin_of_image>",
        "eoi_token": "<end_of_image>",
    }  # fmt: skip
    return special_tokenizer(
        ("<pad>", "<bos>", "<eos>", *named.values()),
        bos_token="<bos>",
        eos_token="<eos>",
        extra_special_tokens=named,
        starts_with="<bos>",
    )


def _save(
    folder: Path,
    config: Any,
    tokenizer: Any,
    images: Any,
    processor: str,
    chat: str,
    settings: dict[str, Any] | None = None,
) -> Path:
    """Model, tokenizer, image processor, chat template and the settings of the processor."""
    models = vars(transformers.models.auto.modeling_auto)
    name = models["MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES"][config.model_type]
    save_model(getattr(transformers, name), config, folder)
    save_parts(folder, tokenizer, images, processor)
    write_json(folder / "chat_template.json", {"chat_template": chat})
    write_json(folder / "processor_config.json", {"processor_class": processor, **(settings or {})})
    return folder


WRITERS: dict[str, Callable[[Path], Path]] = {
    "llava": write_llava_siglip,
    "pixtral": write_pixtral,
    "mistral3": write_mistral3,
    "chameleon": write_chameleon,
    "vipllava": write_vipllava,
    "llava_next_video": write_llava_next_video,
    "idefics2": write_idefics2,
    "aria": write_aria,
    "ovis2": write_ovis2,
    "aya_vision": write_aya_vision,
    "deepseek_vl": write_deepseek_vl,
    "janus": write_janus,
    "glm4v": write_glm4v,
    "qwen3_vl_moe": write_qwen3_vl_moe,
    "gemma4": write_gemma4,
    "video_llama_3": write_video_llama_3,
}
