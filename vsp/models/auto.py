"""Any vision-language model that transformers loads for image and text.

The checkpoint's own processor and chat template make the input; hooks on the decoder record the
states. The families `llava15` and `qwen2` derive from this one, with their own defaults and checks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vsp.config import ModelConfig, parse
from vsp.models.auto_processor import AutoProcessor, read_checkpoint_config
from vsp.models.contract import (
    STATES_ONLY,
    ModelShape,
    Pending,
    Processor,
    PromptGroup,
    Recorded,
    TowerShape,
    VisionLanguageModel,
    rows_alone,
)
from vsp.models.edits import Edit
from vsp.models.pixels import picture_inputs
from vsp.utils.reading import read_json

if TYPE_CHECKING:
    import torch

    from vsp.models.contract import Outline
    from vsp.models.greedy import GreedyDecoder
    from vsp.models.prompt_tree import Bundle

_HALF = ("bfloat16", "float16")  # other dtypes are computed in float32
# Values of inputs with one value per token, for tokens behind the prompt. PaliGemma's prompt attends to
# all tokens of kind 0.
_KINDS_OF_OPTIONS: Mapping[str, Mapping[str, int]] = {"paligemma": {"token_type_ids": 1}}


class AutoVLM(VisionLanguageModel):
    """A model of transformers for image and text, with hooks on its decoder."""

    defaults: ClassVar = ModelConfig(family="auto", quantization="4bit")
    processor: ClassVar[type[AutoProcessor]] = AutoProcessor
    has_forward_only: ClassVar = True
    has_reference: ClassVar = True
    takes_adapter: ClassVar = True
    takes_edits: ClassVar = True
    splits: ClassVar = True
    has_untrained: ClassVar = True

    def __init__(self, config: ModelConfig, devices: Sequence[str] = ()) -> None:
        from vsp.models.adapter import attach
        from vsp.models.capture import Capture
        from vsp.models.loading import load_model
        from vsp.models.vision_tower import find_tower
        from vsp.models.weights import require_finite

        checkpoint = read_checkpoint_config(config, self.processor.model_types)
        dtype = self.shape(config).dtype
        self._model, self._decoder = load_model(config, checkpoint, dtype, devices)
        if config.adapter is not None:
            attach(self._model, config.adapter)
            require_finite(self._model, config.adapter)
        # The base model, without lm_head, where no logits are needed.
        self._base = getattr(self._model, "model", self._model)
        head = self._model.get_output_embeddings()
        self._pad = _pad_token(checkpoint)
        tower = find_tower(self._base, checkpoint)
        self._capture = Capture(self._decoder, self._pad, head, tower)
        self._kinds_of_options = _KINDS_OF_OPTIONS.get(checkpoint.model_type, {})

    @classmethod
    def shape(cls, config: ModelConfig) -> ModelShape:
        parse(cls.processor.options, config.options, f"model {config.family}: options")
        written = _written_shape(config, cls.processor.model_types)
        if written is not None:
            return written
        from vsp.models.loading import decoder_shape

        checkpoint = read_checkpoint_config(config, cls.processor.model_types)
        return decoder_shape(checkpoint.get_text_config(), config.dtype, checkpoint.dtype)

    @classmethod
    def tower_shape(cls, config: ModelConfig) -> TowerShape:
        from vsp.models.vision_tower import tower_shape

        return tower_shape(read_checkpoint_config(config, cls.processor.model_types))

    @classmethod
    def check(cls, config: ModelConfig) -> None:
        from vsp.models.adapter import check_adapter
        from vsp.models.added_tokens import require_few_added
        from vsp.models.hub import local_folder
        from vsp.models.stored_quantization import require_loadable
        from vsp.models.weights import require_whole

        checkpoint = read_checkpoint_config(config, cls.processor.model_types)
        if config.weights == "checkpoint":
            require_loadable(config, checkpoint)
            require_whole(config, checkpoint)
        require_few_added(local_folder(config))
        if config.adapter is not None:
            check_adapter(config, checkpoint)

    @classmethod
    def has_head(cls, config: ModelConfig) -> bool:
        from vsp.models.weights import holds_head, match_checkpoint

        if config.weights == "random":
            return True
        match, _ = match_checkpoint(
            config, read_checkpoint_config(config, cls.processor.model_types)
        )
        return holds_head(match)

    @classmethod
    def outline(cls, config: ModelConfig) -> Outline:
        from vsp.models.loading import outline

        return outline(config, *cls.processor.model_types)

    def forward(
        self,
        groups: Sequence[PromptGroup],
        recorded: Recorded = STATES_ONLY,
        edits: Sequence[Edit] = (),
    ) -> Pending:
        model = self._model if recorded.n_options else self._base
        return self._capture.record(
            groups,
            lambda bundle: model(**self._inputs(bundle), use_cache=False),
            recorded,
            edits=edits,
        )

    def generate(self, groups: Sequence[PromptGroup], n_tokens: int) -> list[tuple[int, ...]]:
        from vsp.models.capture import memory_errors
        from vsp.models.prompt_tree import bundle_groups

        with memory_errors():
            return [
                self._greedy.tokens(n_tokens, **self._inputs(bundle_groups([group], self._pad)))
                for group in rows_alone(groups)
            ]

    @cached_property
    def _greedy(self) -> GreedyDecoder:
        from vsp.models.greedy import GreedyDecoder

        return GreedyDecoder(self._model)

    def forward_only(self, groups: Sequence[PromptGroup]) -> Callable[[], None]:
        return self._capture.forward_only(groups, self._prepare_pass)

    def _prepare_pass(self, bundle: Bundle) -> Callable[[], object]:
        inputs = self._inputs(bundle)
        return lambda: self._base(**inputs, use_cache=False)

    def reference_states(
        self, processor: Processor, images: Sequence[Image.Image], prompts: Sequence[str]
    ) -> NDArray[np.floating]:
        """One forward pass that returns all hidden states, then the last token of each row."""
        import torch

        assert isinstance(processor, AutoProcessor)
        inputs = processor.reference_inputs(images, prompts).to(
            self._model.device, self._model.dtype
        )
        with torch.inference_mode():
            hidden = self._model(**inputs, output_hidden_states=True, use_cache=False).hidden_states
        last = inputs["attention_mask"].sum(dim=1) - 1
        rows = torch.arange(len(last), device=last.device)
        states = torch.stack([layer[rows, last] for layer in hidden])
        return np.asarray(states.float().cpu().numpy())

    def _inputs(self, bundle: Bundle) -> dict[str, torch.Tensor]:
        """Inputs of the whole model: tokens of the trunks, their kinds, and pictures."""
        from vsp.models.device_copies import copy_to_device, input_device

        groups = bundle.groups
        device, dtype = input_device(self._decoder), self._base.dtype
        shape = bundle.trunks.shape
        real = np.arange(shape[1]) < bundle.trunk_lengths[:, None]
        inputs: dict[str, torch.Tensor] = {
            "input_ids": copy_to_device(bundle.trunks, device),
            "attention_mask": copy_to_device(real.astype(np.int64), device),
        }
        for name in groups[0].picture.kinds:
            kinds = np.zeros(shape, np.int64)
            for i, group in enumerate(groups):
                kinds[i, : len(group.picture.tokens)] = group.picture.kinds[name]
                kinds[i, bundle.prompt_lengths[i] :] = self._kinds_of_options.get(name, 0)
            inputs[name] = copy_to_device(kinds, device)
        pictures = [group.picture for group in groups]
        return inputs | picture_inputs(pictures, device, dtype)


def _written_shape(config: ModelConfig, model_types: Sequence[str]) -> ModelShape | None:
    """The shape if config.json says all of it; else None, and transformers has to add defaults.

    Listing models would otherwise take seconds to import transformers.
    """
    from vsp.models.checkpoints import on_disk

    folder = on_disk(config)
    try:
        values = read_json(folder / "config.json") if folder else {}
        text = values["text_config"]
        dtype = values["dtype"] if config.dtype == "auto" else config.dtype
        layers, hidden = text["num_hidden_layers"], text["hidden_size"]
        known = values["model_type"] in model_types
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
    if not known or not (isinstance(layers, int) and isinstance(hidden, int)):
        return None
    return ModelShape(layers + 1, hidden, dtype if dtype in _HALF else "float32")


def _pad_token(checkpoint: Any) -> int:
    """The token that fills sequences; 0 if the checkpoint names none."""
    pad = getattr(checkpoint.get_text_config(), "pad_token_id", None)
    return pad if isinstance(pad, int) and pad >= 0 else 0
