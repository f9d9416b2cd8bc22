"""SpatialRGPT (Cheng et al. 2024, arXiv:2406.01584) and plain VILA-1.5 with a Llama, natively.

A checkpoint is a folder of parts: llm/, vision_tower/, mm_projector/ and, for SpatialRGPT,
region_extractor/. SpatialRGPT sends every image through the region extractor's refinement, whether
or not its prompt speaks of regions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vsp.config import Frozen, ModelConfig, parse
from vsp.errors import InputError, ModelError
from vsp.models import ModelShape

if TYPE_CHECKING:
    import torch

    from vsp.models.vila_parts import RegionExtractor

IMAGE = "<image>"
# What stands around a row's prompt; the tokenizer adds the one BOS.
CONVERSATIONS = {
    # SpatialRGPT's own
    "llama_3": "<|start_header_id|>system<|end_header_id|>\n\nYou are a helpful language and vision "
    "assistant. You are able to understand the visual content that the user provides, and assist "
    "the user with a variety of tasks using natural language.<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\n<image>\n{instruction}<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n",
    # VILA-1.5 3B and 13B
    "vicuna_v1": "A chat between a curious user and an artificial intelligence assistant. The "
    "assistant gives helpful, detailed, and polite answers to the user's questions. "
    "USER: <image>\n{instruction} ASSISTANT:",
    # LLaVA-1.5's, in which older figures for SpatialRGPT were taken; it never saw it in training
    "user_assistant": "USER: <image>\n{instruction}\nASSISTANT:",
}


class SpatialRGPTOptions(Frozen):
    conversation: Literal["llama_3", "vicuna_v1", "user_assistant"]


class SpatialRGPT:
    """See the module."""

    defaults: ClassVar = ModelConfig(
        family="spatialrgpt",
        checkpoint="a8cheng/SpatialRGPT-VILA1.5-8B",
        quantization="4bit",
        options={"conversation": "llama_3"},
    )
    # In the text of a prompt these would be read as tokens with a meaning of their own.
    reserved: ClassVar = re.compile(r"<image>|<mask>|<depth>|<\|[^|<>]*\|>|<s>|</s>|\[PAD\]")

    def __init__(self, config: ModelConfig) -> None:
        import torch
        from transformers import LlamaForCausalLM, SiglipVisionModel

        from vsp.models.loading import load_arguments
        from vsp.models.vila_parts import Projector, RegionExtractor, load_part

        options = parse(SpatialRGPTOptions, config.options, "model spatialrgpt: options")
        self._conversation = CONVERSATIONS[options.conversation]
        root = _folder(config, weights=True)
        top = _read_top(root)
        name = self.shape(config).dtype
        dtype = getattr(torch, name)
        arguments = load_arguments(config, name, unquantized=("lm_head",))
        plain = {k: v for k, v in arguments.items() if k != "quantization_config"}

        llm = LlamaForCausalLM.from_pretrained(root / "llm", **arguments)
        self._tokenizer, self._processor = _read_processors(root)
        if top["enable_region"]:
            self._add_region_tokens(llm, root)
        self._llm = llm.eval().model
        self._tower = SiglipVisionModel.from_pretrained(root / "vision_tower", **plain).eval()
        self._pad_to_square = top["image_aspect_ratio"] == "pad"
        self._select_layer = top["mm_vision_select_layer"]
        vision_size, hidden_size = self._tower.config.hidden_size, self._llm.config.hidden_size
        projector = Projector(_projector_kind(root), vision_size, hidden_size)
        self._projector = load_part(projector, root / "mm_projector", dtype).to(llm.device)
        self._regions: RegionExtractor | None = None
        if top["enable_region"]:
            extractor = RegionExtractor(vision_size, hidden_size)
            self._regions = load_part(extractor, root / "region_extractor", dtype).to(llm.device)
        # The original cuts what is longer; here it is an error.
        self._context = getattr(self._llm.config, "tokenizer_model_max_length", 4096)

    @classmethod
    def shape(cls, config: ModelConfig) -> ModelShape:
        from transformers import AutoConfig

        from vsp.models.loading import decoder_shape

        parse(SpatialRGPTOptions, config.options, "model spatialrgpt: options")
        root = _folder(config, weights=False)
        _read_top(root)
        llm = AutoConfig.from_pretrained(root / "llm", trust_remote_code=False)
        return decoder_shape(llm, config.dtype, llm.dtype)

    @classmethod
    def check(cls, config: ModelConfig) -> None:
        from vsp.models.loading import check_weights, reading
        from vsp.models.vila_parts import Projector

        root = _folder(config, weights=False)
        kind = _projector_kind(root)
        Projector(kind, 1, 1)  # refuses a kind that it does not know
        if Path(str(config.checkpoint)).is_dir():
            for part in ("llm", "vision_tower"):
                check_weights(root / part)
            for part in ("mm_projector", "region_extractor"):
                # Small parts may come in the older format, or hold no weights at all.
                older = (root / part / "pytorch_model.bin").exists()
                if not older and (part, kind) != ("mm_projector", "identity"):
                    check_weights(root / part)
        with reading(config, "tokenizer or image processor"):
            _read_processors(root)

    def last_token_states(
        self, images: Sequence[Image.Image], prompts: Sequence[str]
    ) -> NDArray[np.floating]:
        return self.states(images, [self._conversation.format(instruction=p) for p in prompts])

    def states(
        self,
        images: Sequence[Image.Image],
        texts: Sequence[str],
        masks: Sequence[NDArray[np.bool_]] | None = None,
        depths: Sequence[Image.Image] | None = None,
    ) -> NDArray[np.floating]:
        """Last-token states [layer, batch, hidden] of full conversation `texts`.

        The k-th `<mask>` of a text stands for the k-th of its `masks` [region, height, width], the
        k-th `<depth>` for the same region on its depth picture.
        """
        import torch

        from vsp.models.capture import last_tokens, memory_errors

        with memory_errors(), torch.inference_mode():
            tokens, fine = self._see(images)
            rows = []
            for i, ids in enumerate(map(self.ids, texts)):
                row = self._embed(ids, tokens[i])
                if masks is not None:
                    depth = None if depths is None else depths[i]
                    self._mark_regions(row, ids, fine[i], masks[i], depth, tokens[i])
                rows.append(row)
        lengths = torch.tensor([len(row) for row in rows])
        if (longest := int(lengths.max())) > self._context:
            raise InputError(
                f"prompt and image make {longest} tokens, over the context of {self._context}"
            )
        # Padded on the right: under a causal mask no real token sees the padding.
        batch = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        return last_tokens(
            self._llm, lengths - 1, lambda: self._llm(inputs_embeds=batch, use_cache=False)
        )

    def ids(self, text: str) -> list[int | None]:
        """Token ids of a conversation, with None where its image stands.

        Each piece around the marker is tokenised by itself, as the model was trained; the first
        begins with exactly one BOS, the other with none. Raises InputError without one marker.
        """
        pieces = text.split(IMAGE)
        if len(pieces) != 2:
            raise InputError(
                f"a conversation needs {IMAGE} once, this one has it {len(pieces) - 1} times"
            )
        bos = self._tokenizer.bos_token_id
        before, after = (self._tokenizer(piece).input_ids for piece in pieces)
        before = before if before[:1] == [bos] else [bos, *before]
        after = after[1:] if after[:1] == [bos] else after
        return [*before, None, *after]

    def _see(self, images: Sequence[Image.Image]) -> tuple[torch.Tensor, torch.Tensor]:
        """Image tokens [batch, token, hidden], and the features that regions are pooled from."""
        features = self._features(images)
        if self._regions is None:
            return self._projector(features), features
        fine, coarse = self._regions.refine(features)
        return self._projector(coarse), fine

    def _features(self, images: Sequence[Image.Image]) -> torch.Tensor:
        mean = self._processor.image_mean
        squares = [_square(image, mean) if self._pad_to_square else image for image in images]
        pixels = self._processor(images=squares, return_tensors="pt")["pixel_values"]
        seen = self._tower(
            pixels.to(self._tower.device, self._tower.dtype), output_hidden_states=True
        )
        features: torch.Tensor = seen.hidden_states[self._select_layer]
        return features

    def _embed(self, ids: list[int | None], image: torch.Tensor) -> torch.Tensor:
        """Embeddings [token, hidden] of the text with the image's tokens in their place."""
        import torch

        place = ids.index(None)
        before, after = (
            self._llm.embed_tokens(torch.tensor(part, device=image.device, dtype=torch.long))
            for part in (ids[:place], ids[place + 1 :])
        )
        return torch.cat([before, image.to(before.dtype), after])

    def _mark_regions(
        self,
        row: torch.Tensor,
        ids: list[int | None],
        fine: torch.Tensor,
        masks: NDArray[np.bool_],
        depth: Image.Image | None,
        image: torch.Tensor,
    ) -> None:
        """Replace the embeddings of `<mask>` and `<depth>` by the vectors of their regions."""
        if self._regions is None:
            raise InputError("this checkpoint has no region extractor; ask without regions")
        resized = self._resized(masks).to(fine.device)
        vectors = {"<mask>": self._regions.regions(fine, resized)}
        if depth is not None:
            vectors["<depth>"] = self._regions.depths(self._features([depth])[0], resized)
        for token, found in vectors.items():
            wanted = self._tokenizer.convert_tokens_to_ids(token)
            # Behind the image a token stands as many rows later as the image has tokens.
            places = [
                i if i < ids.index(None) else i + len(image) - 1
                for i, one in enumerate(ids)
                if one == wanted
            ]
            if len(places) != len(found):
                raise InputError(f"a prompt has {len(places)} {token} for {len(found)} regions")
            row[places] = found.to(row.dtype)

    def _resized(self, masks: NDArray[np.bool_]) -> torch.Tensor:
        """Masks [region, height, width] at the tower's resolution, by nearest neighbour."""
        import torch

        size = self._processor.size
        height, width = masks.shape[1:]
        down = np.arange(size["height"]) * height // size["height"]
        across = np.arange(size["width"]) * width // size["width"]
        return torch.from_numpy(masks[:, down][:, :, across].astype(np.float32))

    def _add_region_tokens(self, llm: Any, root: Path) -> None:
        """Make sure that `<mask>` and `<depth>` are tokens, with the ids the tower's config names."""
        self._tokenizer.add_tokens(["<mask>", "<depth>"], special_tokens=True)
        if len(self._tokenizer) > llm.get_input_embeddings().num_embeddings:
            llm.resize_token_embeddings(len(self._tokenizer), mean_resizing=False)
        tower = _read_json(root / "vision_tower/config.json")
        for token, key in (("<mask>", "llm_mask_token_id"), ("<depth>", "llm_depth_token_id")):
            found = self._tokenizer.convert_tokens_to_ids(token)
            if tower.get(key, found) != found:
                raise ModelError(
                    f"{root}: {token} has id {found}, but vision_tower/config.json says "
                    f"{tower[key]}; the checkpoint's parts do not belong together"
                )


def _folder(config: ModelConfig, weights: bool) -> Path:
    """The checkpoint's folder, from the hub's cache or the hub itself where it is a hub name."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    from vsp.models.loading import unreadable

    checkpoint = str(config.checkpoint)
    if Path(checkpoint).is_dir():
        return Path(checkpoint)
    patterns = None if weights else ["*.json", "*/*.json"]
    try:
        found = snapshot_download(checkpoint, revision=config.revision, allow_patterns=patterns)
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise unreadable(config, error) from None
    return Path(found)


def _read_processors(root: Path) -> tuple[Any, Any]:
    from transformers import AutoTokenizer
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    tokenizer = AutoTokenizer.from_pretrained(root / "llm", trust_remote_code=False)
    return tokenizer, SiglipImageProcessorPil.from_pretrained(root / "vision_tower")


def _projector_kind(root: Path) -> str:
    return str(_read_json(root / "mm_projector/config.json").get("mm_projector_type"))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ModelError(
            f"{path}: no such file; the checkpoint is not whole, fetch it again"
        ) from None
    except ValueError as error:
        raise ModelError(f"{path}: is not JSON ({error}); fetch the checkpoint again") from None
    if not isinstance(values, dict):
        raise ModelError(f"{path}: holds a {type(values).__name__}, not a configuration")
    return values


def _read_top(root: Path) -> dict[str, Any]:
    """The top-level configuration with its defaults, once everything unsupported is refused."""
    if (root / "adapter_config.json").exists():
        raise ModelError(
            f"{root}: holds LoRA weights alone; merge them into their base model first"
        )
    top = _read_json(root / "config.json")
    top.setdefault("mm_vision_select_layer", -2)
    top.setdefault("image_aspect_ratio", "resize")
    top.setdefault("enable_region", False)
    for reason, refused in _refusals(root, top):
        if refused:
            raise ModelError(f"{root}: {reason}; this checkpoint is not supported")
    return top


def _refusals(root: Path, top: dict[str, Any]) -> list[tuple[str, bool]]:
    """Reasons why a checkpoint could not be read as it was trained, and whether they hold."""
    tower = _read_json(root / "vision_tower/config.json").get("model_type")
    llm = _read_json(root / "llm/config.json")
    aspect = str(top["image_aspect_ratio"])
    feature = top.get("mm_vision_select_feature", "patch")
    reasons = [
        (f"its model_type is {top.get('model_type')!r}, not 'llava_llama'",
         top.get("model_type") != "llava_llama"),
        ("it tiles images at several scales (s2)", bool(top.get("s2"))),
        ("it tiles images dynamically (dynamic_s2)", bool(top.get("dynamic_s2"))),
        ("it selects patches (ps3)", bool(top.get("ps3"))),
        (f"image_aspect_ratio {aspect!r} is neither resize nor pad", aspect not in ("resize", "pad")),
        (f"its vision tower is a {tower}, not a SigLIP", tower != "siglip_vision_model"),
        (f"mm_vision_select_feature {feature!r} drops a token that SigLIP does not have",
         feature != "cls_patch"),
        (f"its language model is a {llm.get('model_type')}, not a Llama",
         llm.get("model_type") != "llama"),
        ("its language model is quantised already (AWQ or the like)", "quantization_config" in llm),
    ]  # fmt: skip
    if top["enable_region"]:
        path = root / "region_extractor/config.json"
        kind = _read_json(path).get("region_extractor_type") if path.exists() else None
        reasons += [
            ("enable_region is true but there is no folder region_extractor/", not path.exists()),
            (f"its region extractor is {kind!r}, not 'regiongpt'", kind != "regiongpt"),
        ]
    return reasons


def _square(image: Image.Image, mean: Sequence[float]) -> Image.Image:
    """The image in the middle of a square in the processor's mean colour."""
    side = max(image.size)
    square = Image.new("RGB", (side, side), tuple(int(255 * m) for m in mean))
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square
