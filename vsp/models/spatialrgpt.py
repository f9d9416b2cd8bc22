"""SpatialRGPT (Cheng et al. 2024, arXiv:2406.01584) and plain VILA-1.5 with a Llama, natively.

A checkpoint is a folder of parts: llm/, vision_tower/, mm_projector/ and, for SpatialRGPT,
region_extractor/. SpatialRGPT passes every image through the refinement of the region extractor,
also if the prompt names no region.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from vsp.config import ModelConfig, parse
from vsp.errors import ModelError
from vsp.models.config_limits import read_model_config, require_sizes
from vsp.models.contract import (
    STATES_ONLY,
    ModelShape,
    Outline,
    Pending,
    Picture,
    PromptGroup,
    Recorded,
    TowerShape,
    VisionLanguageModel,
    rows_alone,
)
from vsp.models.edits import Edit
from vsp.models.hub import local_folder
from vsp.models.pixels import picture_input
from vsp.models.spatialrgpt_parts import (
    before_cut,
    cut_tower,
    empty_parts,
    n_used,
    part_configs,
    projector_kind,
    read_top,
    small_parts,
)
from vsp.models.spatialrgpt_processor import (
    END_OF_TURN,
    IMAGE_TOKEN,
    SpatialRGPTOptions,
    SpatialRGPTProcessor,
    add_region_tokens,
    read_processors,
)

if TYPE_CHECKING:
    import torch

    from vsp.models.greedy import GreedyDecoder
    from vsp.models.prompt_tree import Bundle
    from vsp.models.vila_modules import RegionExtractor

    OfMarker = dict[str, torch.Tensor]  # marker → vectors [region, hidden]


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
    takes_edits: ClassVar = True
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
        top = read_top(root)
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

        text, tower = part_configs(config, root)
        llm = load_whole(LlamaForCausalLM, str(root / "llm"), text, arguments)
        self._tokenizer, _ = read_processors(config, root)
        if top["enable_region"]:
            add_region_tokens(self._tokenizer, root)
            if len(self._tokenizer) > llm.config.vocab_size:
                llm.resize_token_embeddings(len(self._tokenizer), mean_resizing=False)
        self._whole_llm = llm.eval()  # with lm_head, where answers are needed
        self._llm = llm.model
        folder = str(root / "vision_tower")
        needed = before_cut(root, top)
        self._tower = load_whole(SiglipVisionModel, folder, tower, plain, needed).eval()
        self._last_layer = cut_tower(self._tower, top)
        blocks = self._tower.encoder.layers
        self._capture = Capture(self._llm, 0, llm.lm_head, Tower(blocks, len(blocks)))
        vision_size, hidden_size = self._tower.config.hidden_size, self._llm.config.hidden_size
        projector = Projector(projector_kind(root), vision_size, hidden_size)
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
        top = read_top(root)
        if cls.region_marker(config) and not top["enable_region"]:
            raise ModelError(f"{root}: has no region extractor; use --option regions=none")
        llm = load_config(config, root / "llm")
        require_sizes(llm, str(root / "llm"))
        return decoder_shape(llm, config.dtype, llm.dtype)

    @classmethod
    def tower_shape(cls, config: ModelConfig) -> TowerShape:
        root = local_folder(config)
        tower = read_model_config(root / "vision_tower/config.json")
        return TowerShape(n_used(root, read_top(root)) + 1, tower["hidden_size"])

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
        top = read_top(root)
        whole = empty_parts(config, root, top)
        in_use = before_cut(root, top)
        for part, needed in (("llm", outside_head), ("vision_tower", in_use)):
            headers, _ = checkpoint_headers(config, part)
            require_plain(headers, root / part)
            require_match(match_shapes(getattr(whole, part), headers), root / part, needed)
        for part in small_parts(top):
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
        llm = empty_parts(config, root, read_top(root)).llm
        return holds_head(match_shapes(llm, checkpoint_headers(config, "llm")[0]))

    @classmethod
    def outline(cls, config: ModelConfig) -> Outline:
        root = local_folder(config)
        top = read_top(root)
        whole = empty_parts(config, root, top)
        cut_tower(whole.vision_tower, top)
        return Outline(whole, "llm.model", cls.shape(config).dtype)

    @classmethod
    def region_marker(cls, config: ModelConfig) -> str:
        options = parse(SpatialRGPTOptions, config.options, "model spatialrgpt: options")
        return {"none": "", "mask": "<mask>", "depth": "<mask> <depth>"}[options.regions]

    def forward(
        self,
        groups: Sequence[PromptGroup],
        recorded: Recorded = STATES_ONLY,
        edits: Sequence[Edit] = (),
    ) -> Pending:
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

        return self._capture.record(groups, run, recorded, replace, edits)

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
