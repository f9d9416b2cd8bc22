"""The processor of SpatialRGPT and plain VILA: SigLIP's image processor and Llama's tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vsp.config import Frozen, ModelConfig, parse
from vsp.errors import InputError, ModelError
from vsp.models.config_limits import read_model_config
from vsp.models.contract import (
    Picture,
    Processor,
    TokenizedPrompt,
)
from vsp.models.hub import local_folder
from vsp.models.patch_grid import join_pairs, padded, stretched
from vsp.models.pixels import PIXELS, BytePictures, byte_pictures
from vsp.models.prompt_tokens import (
    match_any,
    option_tokens,
    processing_errors,
    reserved_tokens,
    span_tokens,
)
from vsp.models.spatialrgpt_parts import MODEL_TYPES, projector_kind, read_top

IMAGE = "<image>"
IMAGE_TOKEN = -200  # outside the tokenizer's vocabulary
END_OF_TURN = "<|eot_id|>"  # of Llama 3, where config.json names only the end of the text
# Text around a row's prompt; the tokenizer adds the BOS.
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
    # LLaVA-1.5's, with which older figures for SpatialRGPT were measured; not used in its training
    "user_assistant": "USER: <image>\n{instruction}\nASSISTANT:",
}


class SpatialRGPTOptions(Frozen):
    conversation: Literal["llama_3", "vicuna_v1", "user_assistant"]
    regions: Literal["none", "mask", "depth"]  # ask about regions instead of names


class SpatialRGPTProcessor(Processor):
    """SigLIP's image processor and Llama's tokenizer; IMAGE_TOKEN marks the image's positions."""

    model_types: ClassVar[tuple[str, ...]] = MODEL_TYPES

    def __init__(self, config: ModelConfig) -> None:
        options = parse(SpatialRGPTOptions, config.options, "model spatialrgpt: options")
        self._conversation = CONVERSATIONS[options.conversation]
        root = local_folder(config)
        self._top = read_top(root)
        self._tokenizer, self._pixels = read_processors(config, root)
        if self._top["enable_region"]:
            add_region_tokens(self._tokenizer, root)
        tower = read_model_config(root / "vision_tower/config.json")
        self._patch = tower["patch_size"]
        self._projector = projector_kind(root)
        self._n_tokens = image_tokens(self._projector, tower["image_size"] // self._patch)
        # The original code truncates longer prompts; here they are an error.
        llm = read_model_config(root / "llm/config.json")
        context = llm.get("tokenizer_model_max_length")
        self._context = context if isinstance(context, int) else 4096
        n_added = len(self._tokenizer) if self._top["enable_region"] else 0
        self._vocabulary = max(llm.get("vocab_size", 10**9), n_added)
        self._tokenizer.model_max_length = 10**9
        # <mask> and <depth> are not tokens of a plain VILA, but always mean regions.
        own = (IMAGE, "<mask>", "<depth>", *reserved_tokens(self._tokenizer))
        self._reserved = match_any(own)

    def reserved(self, prompt: str) -> str | None:
        match = self._reserved.search(prompt)
        return match[0] if match else None

    def picture(self, image: Image.Image, depth: Image.Image | None = None) -> Picture:
        """A depth picture is needed if prompts contain `<depth>`."""
        arrays = {"pixels": self._pixel_values(image)}
        if depth is not None:
            arrays["depth"] = self._pixel_values(depth)
        ahead, _, behind = self._conversation.partition(IMAGE)[2].partition("{instruction}")
        rule = self._byte_pictures.rule if self._byte_pictures else None
        return Picture(arrays, self._picture_tokens, {}, (ahead, behind), rule)

    @cached_property
    def _picture_tokens(self) -> tuple[int, ...]:
        """The tokens before an image, and those of an image."""
        bos = self._tokenizer.bos_token_id
        with processing_errors():
            ids = self._tokenizer(self._conversation.partition(IMAGE)[0]).input_ids
        return (*([] if ids[:1] == [bos] else [bos]), *ids, *(IMAGE_TOKEN,) * self._n_tokens)

    def row(
        self, picture: Picture, prompt: str, regions: NDArray[np.bool_] | None = None
    ) -> TokenizedPrompt:
        """The k-th `<mask>` in a prompt is the k-th of `regions` [region, height, width]; the k-th
        `<depth>` is the same region on the depth picture.

        The text after the image is tokenised separately, as in training, without a BOS.
        """
        with processing_errors():
            after = self._tokenizer(prompt.join(picture.around)).input_ids
        tokens = (*picture.tokens, *after[self._n_start(after) :])
        if len(tokens) > self._context:
            raise InputError(
                f"prompt and image make {len(tokens)} tokens, over the context of {self._context}"
            )
        if regions is None:
            return TokenizedPrompt(tokens, len(tokens))
        return TokenizedPrompt(tokens, *self._marked(tokens, "depth" in picture.arrays, regions))

    def _n_start(self, tokens: Sequence[int]) -> int:
        """The number of tokens that the tokenizer puts before a text."""
        return int(tokens[:1] == [self._tokenizer.bos_token_id])

    def option_tokens(
        self, picture: Picture, row: TokenizedPrompt, prompt: str, options: Sequence[str]
    ) -> tuple[tuple[int, ...], ...]:
        text = prompt.join(picture.around)
        with processing_errors():
            seen = self._tokenizer([text + option for option in options]).input_ids
        wholes = [(*picture.tokens, *after[self._n_start(after) :]) for after in seen]
        limits = (self._vocabulary, self._context)
        return option_tokens(row, options, wholes, limits, self.reserved)

    def name_tokens(
        self, picture: Picture, row: TokenizedPrompt, prompt: str, start: int, stop: int
    ) -> tuple[int, ...]:
        ahead = picture.around[0]
        text = ahead + prompt + picture.around[1]
        places = span_tokens(self._tokenizer, text, len(ahead) + start, len(ahead) + stop)
        with processing_errors():
            n_start = self._n_start(self._tokenizer(ahead).input_ids)
        return tuple(len(picture.tokens) - n_start + place for place in places)

    def image_places(self, picture: Picture) -> tuple[int, ...]:
        return tuple(i for i, token in enumerate(picture.tokens) if token == IMAGE_TOKEN)

    def patch_centres(self, picture: Picture, size: tuple[int, int]) -> NDArray[np.float64]:
        centres = self.tower_centres(picture, size)
        return join_pairs(centres) if self._projector == "mlp_downsample" else centres

    def tower_centres(self, picture: Picture, size: tuple[int, int]) -> NDArray[np.float64]:
        width, height = self._pixels.size["width"], self._pixels.size["height"]
        pads = self._top["image_aspect_ratio"] == "pad"
        canvas = padded(size, width) if pads else stretched(width, height)
        return canvas.centres(self._patch)

    def decode(self, tokens: Sequence[int]) -> str:
        with processing_errors():
            return str(self._tokenizer.decode(list(tokens), skip_special_tokens=True))

    def _pixel_values(self, image: Image.Image) -> NDArray[Any]:
        """Bytes [height, width, channel], or [1, channel, height, width] of the image processor."""
        if self._top["image_aspect_ratio"] == "pad":
            image = _square(image, self._pixels.image_mean)
        with processing_errors():
            if self._byte_pictures is not None:
                return self._byte_pictures(image)
            return np.asarray(self._pixels(images=image, return_tensors="np")[PIXELS])

    @cached_property
    def _byte_pictures(self) -> BytePictures | None:
        """Prepares pictures as bytes; None for an image processor that does not allow it."""
        return byte_pictures(
            self._pixels, lambda image: self._pixels(images=image, return_tensors="np")
        )

    def _marked(
        self, tokens: tuple[int, ...], has_depth: bool, regions: NDArray[np.bool_]
    ) -> tuple[int, NDArray[np.bool_]]:
        """Number of tokens before the first marker, and the regions at the tower's resolution."""
        if not self._top["enable_region"]:
            raise InputError("this checkpoint has no region extractor; ask without regions")
        resized = self._resized(regions)
        if not resized.any(axis=(1, 2)).all():
            raise InputError("a region covers no pixel; give each a box or mask inside its image")
        first = len(tokens)
        for marker in ("<mask>", "<depth>"):
            wanted = self._tokenizer.convert_tokens_to_ids(marker)
            n_markers = tokens.count(wanted)
            if n_markers != len(regions) and (marker == "<mask>" or n_markers or has_depth):
                raise InputError(f"a prompt has {n_markers} {marker} for {len(regions)} regions")
            first = min(first, tokens.index(wanted)) if n_markers else first
        if self._tokenizer.convert_tokens_to_ids("<depth>") in tokens and not has_depth:
            raise InputError("a prompt contains <depth> but there is no depth picture")
        return first, resized

    def _resized(self, regions: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Masks [region, height, width] at the tower's resolution, by nearest neighbour."""
        size = self._pixels.size
        height, width = regions.shape[1:]
        down = np.arange(size["height"]) * height // size["height"]
        across = np.arange(size["width"]) * width // size["width"]
        return regions[:, down][:, :, across]


def image_tokens(kind: str, side: int) -> int:
    """Number of tokens that a projector of this kind makes from `side` × `side` patches."""
    return ((side + 1) // 2) ** 2 if kind == "mlp_downsample" else side**2


def add_region_tokens(tokenizer: Any, root: Path) -> None:
    """Add the tokens `<mask>` and `<depth>`.

    Raises ModelError if their ids are not those in the tower's configuration.
    """
    tokenizer.add_tokens(["<mask>", "<depth>"], special_tokens=True)
    tower = read_model_config(root / "vision_tower/config.json")
    for token, key in (("<mask>", "llm_mask_token_id"), ("<depth>", "llm_depth_token_id")):
        number = tokenizer.convert_tokens_to_ids(token)
        if tower.get(key, number) != number:
            raise ModelError(
                f"{root}: {token} has id {number}, but vision_tower/config.json says "
                f"{tower[key]}; the checkpoint's parts do not belong together"
            )


def read_processors(config: ModelConfig, root: Path) -> tuple[Any, Any]:
    from transformers import AutoTokenizer
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    from vsp.models.checkpoints import reading
    from vsp.models.library_errors import hidden_panics

    with reading(config, "tokenizer or image processor"), hidden_panics():
        tokenizer = AutoTokenizer.from_pretrained(root / "llm", trust_remote_code=False)
        return tokenizer, SiglipImageProcessorPil.from_pretrained(root / "vision_tower")


def _square(image: Image.Image, mean: Sequence[float]) -> Image.Image:
    """The image in the middle of a square of the processor's mean colour."""
    side = max(image.size)
    square = Image.new("RGB", (side, side), tuple(int(255 * m) for m in mean))
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square
