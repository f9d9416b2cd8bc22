"""SpatialRGPT (Cheng et al. 2024, arXiv:2406.01584) and plain VILA-1.5 with a Llama, natively.

A checkpoint is a folder of parts: llm/, vision_tower/, mm_projector/ and, for SpatialRGPT,
region_extractor/. SpatialRGPT passes every image through the refinement of the region extractor,
also if the prompt names no region.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vsp.config import Frozen, ModelConfig, parse
from vsp.errors import InputError, ModelError
from vsp.models.config_limits import read_model_config, require_sizes
from vsp.models.contract import (
    STATES_ONLY,
    ModelShape,
    Outline,
    Pending,
    Picture,
    Processor,
    PromptGroup,
    Recorded,
    TokenizedPrompt,
    TowerShape,
    VisionLanguageModel,
    rows_alone,
)
from vsp.models.hub import local_folder
from vsp.models.patch_grid import join_pairs, padded, stretched
from vsp.models.pixels import PIXELS, BytePictures, byte_pictures, picture_input
from vsp.models.prompt_tokens import (
    match_any,
    option_tokens,
    processing_errors,
    reserved_tokens,
    span_tokens,
)

if TYPE_CHECKING:
    import torch

    from vsp.models.greedy import GreedyDecoder
    from vsp.models.prompt_tree import Bundle
    from vsp.models.vila_modules import RegionExtractor

    OfMarker = dict[str, torch.Tensor]  # marker → vectors [region, hidden]

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

    model_types: ClassVar[tuple[str, ...]] = ("llava_llama",)

    def __init__(self, config: ModelConfig) -> None:
        options = parse(SpatialRGPTOptions, config.options, "model spatialrgpt: options")
        self._conversation = CONVERSATIONS[options.conversation]
        root = local_folder(config)
        self._top = _read_top(root)
        self._tokenizer, self._pixels = _read_processors(config, root)
        if self._top["enable_region"]:
            add_region_tokens(self._tokenizer, root)
        tower = read_model_config(root / "vision_tower/config.json")
        self._patch = tower["patch_size"]
        self._projector = _projector_kind(root)
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


class SpatialRGPT(VisionLanguageModel):
    """SigLIP, a projector, a region extractor and a Llama, each from its own folder."""

    defaults: ClassVar = ModelConfig(
        family="spatialrgpt",
        checkpoint="a8cheng/SpatialRGPT-VILA1.5-8B",
        quantization="4bit",
        options={"conversation": "llama_3", "regions": "none"},
    )
    processor: ClassVar = SpatialRGPTProcessor
    has_forward_only: ClassVar = True
    splits: ClassVar = True

    def __init__(self, config: ModelConfig, devices: Sequence[str] = ()) -> None:
        import torch
        from transformers import LlamaForCausalLM, SiglipVisionModel

        from vsp.models.capture import Capture
        from vsp.models.loading import load_arguments, load_whole
        from vsp.models.placement import device_map
        from vsp.models.vila_modules import Projector, RegionExtractor, load_part
        from vsp.models.vision_tower import Tower

        root = local_folder(config)
        top = _read_top(root)
        name = self.shape(config).dtype
        dtype = getattr(torch, name)
        arguments = load_arguments(config, name, unquantized=("lm_head",))
        plain = {k: v for k, v in arguments.items() if k != "quantization_config"}
        if len(devices) > 1:
            placed = device_map(self.outline(config), config.quantization, devices)
            arguments["device_map"] = {
                name.removeprefix("llm."): device
                for name, device in placed.items()
                if name.startswith("llm.")
            }
            plain["device_map"] = {"": devices[0]}

        text, tower = _part_configs(config, root)
        llm = load_whole(LlamaForCausalLM, str(root / "llm"), text, arguments)
        self._tokenizer, _ = _read_processors(config, root)
        if top["enable_region"]:
            add_region_tokens(self._tokenizer, root)
            if len(self._tokenizer) > llm.config.vocab_size:
                llm.resize_token_embeddings(len(self._tokenizer), mean_resizing=False)
        self._whole_llm = llm.eval()  # with lm_head, where answers are needed
        self._llm = llm.model
        folder = str(root / "vision_tower")
        needed = _before_cut(root, top)
        self._tower = load_whole(SiglipVisionModel, folder, tower, plain, needed).eval()
        self._last_layer = cut_tower(self._tower, top)
        blocks = self._tower.encoder.layers
        self._capture = Capture(self._llm, 0, llm.lm_head, Tower(blocks, len(blocks)))
        vision_size, hidden_size = self._tower.config.hidden_size, self._llm.config.hidden_size
        projector = Projector(_projector_kind(root), vision_size, hidden_size)
        self._projector = load_part(projector, root / "mm_projector", dtype).to(llm.device)
        self._regions: RegionExtractor | None = None
        if top["enable_region"]:
            extractor = RegionExtractor(vision_size, hidden_size)
            self._regions = load_part(extractor, root / "region_extractor", dtype).to(llm.device)

    @classmethod
    def shape(cls, config: ModelConfig) -> ModelShape:
        from vsp.models.loading import decoder_shape
        from vsp.models.outline import load_config

        root = local_folder(config)
        top = _read_top(root)
        if cls.region_marker(config) and not top["enable_region"]:
            raise ModelError(f"{root}: has no region extractor; use --option regions=none")
        llm = load_config(config, root / "llm")
        require_sizes(llm, str(root / "llm"))
        return decoder_shape(llm, config.dtype, llm.dtype)

    @classmethod
    def tower_shape(cls, config: ModelConfig) -> TowerShape:
        root = local_folder(config)
        tower = read_model_config(root / "vision_tower/config.json")
        return TowerShape(_n_used(root, _read_top(root)) + 1, tower["hidden_size"])

    @classmethod
    def check(cls, config: ModelConfig) -> None:
        from vsp.models.added_tokens import require_few_added
        from vsp.models.weights import (
            checkpoint_headers,
            match_module,
            match_shapes,
            outside_head,
            require_match,
            require_plain,
        )

        root = local_folder(config)
        require_few_added(root / "llm")
        top = _read_top(root)
        whole = _empty_parts(config, root, top)
        before_cut = _before_cut(root, top)
        for part, needed in (("llm", outside_head), ("vision_tower", before_cut)):
            headers, _ = checkpoint_headers(config, part)
            require_plain(headers, root / part)
            require_match(match_shapes(getattr(whole, part), headers), root / part, needed)
        for part in _small_parts(top):
            module = getattr(whole, part)
            # Small parts may be in the older format, or have no weights.
            older = (root / part / "pytorch_model.bin").exists()
            if not older and module.state_dict():
                headers, _ = checkpoint_headers(config, part)
                require_match(match_module(module, headers), root / part)

    @classmethod
    def has_head(cls, config: ModelConfig) -> bool:
        from vsp.models.weights import checkpoint_headers, holds_head, match_shapes

        root = local_folder(config)
        llm = _empty_parts(config, root, _read_top(root)).llm
        return holds_head(match_shapes(llm, checkpoint_headers(config, "llm")[0]))

    @classmethod
    def outline(cls, config: ModelConfig) -> Outline:
        root = local_folder(config)
        top = _read_top(root)
        whole = _empty_parts(config, root, top)
        cut_tower(whole.vision_tower, top)
        return Outline(whole, "llm.model", cls.shape(config).dtype)

    @classmethod
    def region_marker(cls, config: ModelConfig) -> str:
        options = parse(SpatialRGPTOptions, config.options, "model spatialrgpt: options")
        return {"none": "", "mask": "<mask>", "depth": "<mask> <depth>"}[options.regions]

    def forward(self, groups: Sequence[PromptGroup], recorded: Recorded = STATES_ONLY) -> Pending:
        vectors: list[list[OfMarker]] = []  # of each row of each sequence, once images are encoded
        llm = self._whole_llm if recorded.n_options else self._llm

        def run(bundle: Bundle) -> Any:
            images, fine = self._encode(self._group_pixels(bundle.groups))
            pairs = zip(bundle.groups, fine, strict=True)
            vectors[:] = [self._region_vectors(group, features) for group, features in pairs]
            embeds = self._embed(bundle, images)
            del images, fine  # large, and not needed by the decoder
            return llm(inputs_embeds=embeds, use_cache=False)

        def replace(bundle: Bundle, embeds: torch.Tensor) -> None:
            self._replace_markers(bundle, vectors, embeds)

        return self._capture.record(groups, run, recorded, replace)

    def generate(self, groups: Sequence[PromptGroup], n_tokens: int) -> list[tuple[int, ...]]:
        import torch

        from vsp.models.capture import memory_errors

        with memory_errors(), torch.inference_mode():
            return [
                self._greedy.tokens(n_tokens, inputs_embeds=self._prompt_embeds(group))
                for group in rows_alone(groups)
            ]

    @cached_property
    def _greedy(self) -> GreedyDecoder:
        from vsp.models.greedy import GreedyDecoder

        known = self._tokenizer.get_vocab()
        ends = (self._tokenizer.eos_token, END_OF_TURN)
        return GreedyDecoder(self._whole_llm, [known[end] for end in ends if end in known])

    def _prompt_embeds(self, group: PromptGroup) -> torch.Tensor:
        """Embeddings [1, token, hidden] of a prompt with its image and its regions."""
        from vsp.models.prompt_tree import bundle_groups

        bundle = bundle_groups([group], 0)
        images, (fine,) = self._encode(self._group_pixels([group]))
        embeds = self._embed(bundle, images)
        self._replace_markers(bundle, [self._region_vectors(group, fine)], embeds)
        return embeds

    def forward_only(self, groups: Sequence[PromptGroup]) -> Callable[[], None]:
        def prepare(bundle: Bundle) -> Callable[[], object]:
            pixels = self._group_pixels(bundle.groups)
            return lambda: self._llm(
                inputs_embeds=self._embed(bundle, self._encode(pixels)[0]), use_cache=False
            )

        return self._capture.forward_only(groups, prepare)

    def _group_pixels(self, groups: Sequence[PromptGroup]) -> torch.Tensor:
        return self._to_device([group.picture for group in groups], "pixels")

    def _to_device(self, pictures: Sequence[Picture], name: str) -> torch.Tensor:
        return picture_input(pictures, name, self._tower.device, self._tower.dtype)

    def _encode(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Image tokens [batch, token, hidden], and the features from which regions are pooled."""
        features = self._features(pixels)
        if self._regions is None:
            return self._projector(features), features
        fine, coarse = self._regions.refine(features)
        return self._projector(coarse), fine

    def _features(self, pixels: torch.Tensor) -> torch.Tensor:
        """Output of the tower's selected layer, [batch, patch, width]."""
        outputs: list[torch.Tensor] = []
        hook = self._last_layer.register_forward_hook(lambda *given: outputs.append(given[-1]))
        try:
            self._tower(pixels)
        finally:
            hook.remove()
        return outputs[0][0] if isinstance(outputs[0], tuple) else outputs[0]

    def _embed(self, bundle: Bundle, images: torch.Tensor) -> torch.Tensor:
        """Embeddings [sequence, token, hidden] of the trunks, with those of the images inserted."""
        from vsp.models.device_copies import copy_to_device

        text = copy_to_device(bundle.trunks.clip(min=0), images.device)
        places = [
            copy_to_device(axis, images.device) for axis in np.nonzero(bundle.trunks == IMAGE_TOKEN)
        ]
        embeds: torch.Tensor = self._llm.embed_tokens(text).clone()
        embeds[tuple(places)] = images.flatten(0, 1).to(embeds.dtype)
        return embeds

    def _replace_markers(
        self, bundle: Bundle, vectors: Sequence[Sequence[OfMarker]], embeds: torch.Tensor
    ) -> None:
        """Write the region vectors of each row of each sequence over the embeddings of markers."""
        for place in bundle.places:
            for marker, of_regions in vectors[place.sequence][place.index].items():
                wanted = self._tokenizer.convert_tokens_to_ids(marker)
                at = [i for i, token in enumerate(place.row.tokens) if token == wanted]
                for index, vector in zip(at, of_regions, strict=True):
                    embeds[place.token(index)] = vector.to(embeds.dtype)

    def _region_vectors(self, group: PromptGroup, fine: torch.Tensor) -> list[OfMarker]:
        """The vectors that replace the markers of each row."""
        import torch

        if self._regions is None or all(row.regions is None for row in group.rows):
            return [{} for _ in group.rows]
        flat = None
        if "depth" in group.picture.arrays:
            flat = self._features(self._to_device([group.picture], "depth"))[0]
        vectors: list[OfMarker] = []
        for row in group.rows:
            of_marker = {}
            if row.regions is not None:
                masks = torch.from_numpy(row.regions).to(fine.device, torch.float32)
                of_marker["<mask>"] = self._regions.regions(fine, masks)
                if flat is not None:
                    of_marker["<depth>"] = self._regions.depths(flat, masks)
            vectors.append(of_marker)
        return vectors


def _part_configs(config: ModelConfig, root: Path) -> tuple[Any, Any]:
    """Configurations of the language model and of the vision tower."""
    from vsp.models.outline import load_config

    return load_config(config, root / "llm"), load_config(config, root / "vision_tower")


def _empty_parts(config: ModelConfig, root: Path, top: Mapping[str, Any]) -> Any:
    """The parts of the model on torch's meta device, with the whole tower."""
    import torch
    from torch import nn
    from transformers import LlamaForCausalLM, SiglipVisionModel

    from vsp.models.checkpoints import reading
    from vsp.models.vila_modules import Projector, RegionExtractor

    llm, tower = _part_configs(config, root)
    sizes = (tower.hidden_size, llm.hidden_size)
    whole = nn.Module()
    with reading(config, "configuration"), torch.device("meta"):
        whole.llm = LlamaForCausalLM(llm)
        whole.vision_tower = SiglipVisionModel(tower)
    with torch.device("meta"):
        whole.mm_projector = Projector(_projector_kind(root), *sizes)
        if top["enable_region"]:
            whole.region_extractor = RegionExtractor(*sizes)
    return whole


def _before_cut(root: Path, top: Mapping[str, Any]) -> Callable[[str], bool]:
    """A function that is False for weights of the tower after its selected layer."""
    from vsp.models.weights import before_layer

    n_used = _n_used(root, top)
    return lambda name: before_layer(name, n_used) and "head." not in name


def _n_used(root: Path, top: Mapping[str, Any]) -> int:
    """The number of the tower's blocks up to the selected layer."""
    n_layers = int(read_model_config(root / "vision_tower/config.json")["num_hidden_layers"])
    layer = top["mm_vision_select_layer"]
    if not isinstance(layer, int) or not -n_layers - 1 <= layer <= n_layers:
        raise ModelError(
            f"{root}: mm_vision_select_layer {layer!r} is not one of the {n_layers} layers of the vision "
            "tower; correct it in config.json"
        )
    return range(n_layers + 1)[layer]


def cut_tower(tower: Any, top: Mapping[str, Any]) -> Any:
    """Remove the layers after the selected one; the selected layer."""
    # The index counts hidden states; number 0 is the embedding output.
    states = range(len(tower.encoder.layers) + 1)
    tower.encoder.layers = tower.encoder.layers[: states[top["mm_vision_select_layer"]]]
    return tower.encoder.layers[-1]


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


def _read_processors(config: ModelConfig, root: Path) -> tuple[Any, Any]:
    from transformers import AutoTokenizer
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    from vsp.models.checkpoints import reading
    from vsp.models.library_errors import hidden_panics

    with reading(config, "tokenizer or image processor"), hidden_panics():
        tokenizer = AutoTokenizer.from_pretrained(root / "llm", trust_remote_code=False)
        return tokenizer, SiglipImageProcessorPil.from_pretrained(root / "vision_tower")


def _small_parts(top: dict[str, Any]) -> tuple[str, ...]:
    return ("mm_projector", "region_extractor") if top["enable_region"] else ("mm_projector",)


def _projector_kind(root: Path) -> str:
    return str(read_model_config(root / "mm_projector/config.json").get("mm_projector_type"))


def _read_top(root: Path) -> dict[str, Any]:
    """The top-level configuration with defaults. Raises ModelError if it is not supported."""
    from vsp.models.checkpoints import refuse_adapter_files, suggest_family

    for part in ("llm", "vision_tower"):
        refuse_adapter_files(root / part)
    top = read_model_config(root / "config.json")
    kind = str(top.get("model_type"))
    if kind not in SpatialRGPTProcessor.model_types:
        raise ModelError(
            f"{root}: its model_type is {kind!r}, not 'llava_llama'; {suggest_family(kind, 'spatialrgpt')}"
        )
    top.setdefault("mm_vision_select_layer", -2)
    top.setdefault("image_aspect_ratio", "resize")
    top.setdefault("enable_region", False)
    for reason, refused in _refusals(root, top):
        if refused:
            raise ModelError(f"{root}: {reason}; this checkpoint is not supported")
    path = root / "vision_tower/config.json"
    tower = read_model_config(path)
    for key in ("image_size", "patch_size", "num_hidden_layers"):
        if not isinstance(tower.get(key), int):
            raise ModelError(
                f"{path}: {key} is {tower.get(key)!r}, not a whole number; correct it, or download the "
                "checkpoint again"
            )
    return top


def _refusals(root: Path, top: dict[str, Any]) -> list[tuple[str, bool]]:
    """Reasons to refuse a checkpoint, and whether each applies."""
    tower = read_model_config(root / "vision_tower/config.json")
    llm = read_model_config(root / "llm/config.json")
    aspect = str(top["image_aspect_ratio"])
    feature = top.get("mm_vision_select_feature", "patch")
    reasons = [
        ("it tiles images at several scales (s2)", bool(top.get("s2"))),
        ("it tiles images dynamically (dynamic_s2)", bool(top.get("dynamic_s2"))),
        ("it selects patches (ps3)", bool(top.get("ps3"))),
        (f"image_aspect_ratio {aspect!r} is neither resize nor pad", aspect not in ("resize", "pad")),
        (f"its vision tower is a {tower.get('model_type')}, not a SigLIP",
         tower.get("model_type") != "siglip_vision_model"),
        (f"mm_vision_select_feature {feature!r} drops a token that SigLIP does not have",
         feature != "cls_patch"),
        (f"its language model is a {llm.get('model_type')}, not a Llama",
         llm.get("model_type") != "llama"),
        ("its language model is already quantised (for example AWQ)", "quantization_config" in llm),
        ("its vision tower is already quantised", "quantization_config" in tower),
    ]  # fmt: skip
    if top["enable_region"]:
        path = root / "region_extractor/config.json"
        kind = read_model_config(path).get("region_extractor_type") if path.exists() else None
        reasons += [
            ("enable_region is true but there is no folder region_extractor/", not path.exists()),
            (f"its region extractor is {kind!r}, not 'regiongpt'", kind != "regiongpt"),
        ]
    return reasons


def _square(image: Image.Image, mean: Sequence[float]) -> Image.Image:
    """The image in the middle of a square of the processor's mean colour."""
    side = max(image.size)
    square = Image.new("RGB", (side, side), tuple(int(255 * m) for m in mean))
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square
