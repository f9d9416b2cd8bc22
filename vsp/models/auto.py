"""Any vision-language model that transformers loads for image and text.

The checkpoint's own processor and chat template make the input; hooks on the decoder record the
states. The families `llava15` and `qwen2` derive from this one, with their own defaults and checks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vsp.config import Frozen, ModelConfig, parse
from vsp.errors import InputError, ModelError
from vsp.models.contract import (
    STATES_ONLY,
    ModelShape,
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
from vsp.models.patch_grid import PatchGrid
from vsp.models.pixels import PIXELS, BytePictures, byte_pictures, picture_inputs
from vsp.models.prompt_tokens import (
    RecordingTokenizer,
    match_any,
    option_tokens,
    processing_errors,
    reserved_tokens,
    span_tokens,
)
from vsp.models.supported import check_part, check_type
from vsp.utils.reading import read_json

if TYPE_CHECKING:
    import torch

    from vsp.models.contract import Outline
    from vsp.models.greedy import GreedyDecoder
    from vsp.models.prompt_tree import Bundle

IMAGE = "<image>"  # the image in a template, whatever the model calls it
INSTRUCTION = "{instruction}"  # a row's prompt in a template
_MAX_ASPECT_RATIO = 200
_MAX_SIZES = 256  # sizes of pictures whose tokens are kept
_HALF = ("bfloat16", "float16")  # other dtypes are computed in float32
# Values of inputs with one value per token, for tokens behind the prompt. PaliGemma's prompt attends to
# all tokens of kind 0.
_KINDS_OF_OPTIONS: Mapping[str, Mapping[str, int]] = {"paligemma": {"token_type_ids": 1}}
_PROMPT = "Qzx"  # placeholder of a row's prompt, to find the text around it


class NoOptions(Frozen):
    """Options of a family that has none."""


class AutoProcessor(Processor):
    """The checkpoint's processor for one image and text.

    Its video part is left out, because it needs torchvision. Images are always resized by Pillow, so
    that every machine gets the same pixels.
    """

    options: ClassVar[type[Frozen]] = NoOptions  # passed to the image processor

    def __init__(self, config: ModelConfig) -> None:
        from vsp.models.checkpoint_processor import read_processor

        checkpoint = _read_config(config, self.model_types)
        chosen = parse(self.options, config.options, f"model {config.family}: options")
        limits = {key: value for key, value in chosen if value is not None}
        self._processor = read_processor(config, checkpoint, limits)
        self._tokenizer = self._processor.tokenizer
        self._tokenizer.model_max_length = 10**9  # long prompts are refused by `row`, so no warning
        self._processor.tokenizer = self._last_text = RecordingTokenizer(self._tokenizer)
        self._image = checkpoint.image_token_id
        self._grid = PatchGrid(checkpoint, self._processor.image_processor)
        # It is put in front of a prompt, because some tokenizers treat the start of a text specially.
        self._image_text = self._tokenizer.convert_ids_to_tokens(self._image)
        self._template = config.template
        self._text = self._whole_prompt(config)
        bos = self._tokenizer.bos_token  # some chat templates begin with it; it must occur once
        self._adds_special = bos is None or not self._text.startswith(bos)
        self._reserved = match_any(reserved_tokens(self._tokenizer))
        self._vocabulary = getattr(checkpoint.get_text_config(), "vocab_size", 10**9)
        context = getattr(checkpoint.get_text_config(), "max_position_embeddings", None)
        self._context = context or 10**9
        # The first picture of each shape of pixels, without these: tokens depend on the shape only.
        self._first_pictures: dict[tuple[int, ...], Picture] = {}

    @property
    def crops(self) -> bool:
        return bool(getattr(self._processor.image_processor, "do_center_crop", False))

    def reserved(self, prompt: str) -> str | None:
        match = self._reserved.search(prompt)
        return match[0] if match else None

    def picture(self, image: Image.Image, depth: Image.Image | None = None) -> Picture:
        if depth is not None:
            raise InputError("this model takes no depth picture")
        if max(image.size) > _MAX_ASPECT_RATIO * min(image.size):
            raise InputError(
                f"image of {image.width} × {image.height} has an aspect ratio over "
                f"{_MAX_ASPECT_RATIO}:1; crop or pad it"
            )
        if self._byte_pictures is None:
            return self._whole_picture(image)
        with processing_errors():
            pixels = self._byte_pictures(image)
        first = self._first_pictures.get(pixels.shape)
        if first is None:
            first = self._whole_picture(image)
            others = {name: array for name, array in first.arrays.items() if name != PIXELS}
            first = replace(first, arrays=others, rule=self._byte_pictures.rule)
            if len(self._first_pictures) == _MAX_SIZES:
                self._first_pictures.clear()
            self._first_pictures[pixels.shape] = first
        return replace(first, arrays={**first.arrays, PIXELS: pixels})

    @cached_property
    def _byte_pictures(self) -> BytePictures | None:
        """Prepares pictures as bytes; None for an image processor that does not allow it.

        Made with the first picture, because a hostile checkpoint's processor must not run before it
        is tried within limits.
        """
        return byte_pictures(
            self._processor.image_processor, lambda image: self._whole_picture(image).arrays
        )

    def _whole_picture(self, image: Image.Image) -> Picture:
        """A picture as the checkpoint's processor prepares it."""
        with processing_errors():
            try:
                seen = self._processor(
                    images=[[image]],
                    text=[self._text],
                    add_special_tokens=self._adds_special,
                    return_tensors="np",
                )
            except ValueError as error:  # for example an aspect ratio over 200:1
                raise InputError(f"image cannot be used: {error}") from None
        tokens = np.asarray(seen.pop("input_ids"))
        places = np.flatnonzero(tokens[0] == self._image)
        if not len(places):
            raise ModelError(
                f"the prompt {self._text!r} gives no image token of number {self._image}; the "
                "template does not print the image, or the checkpoint's image token is another one"
            )
        stop = int(places[-1]) + 1
        ahead, _, behind = self._last_text.text.rpartition(self._image_text)[2].partition(_PROMPT)
        per_token = {k: v for k, v in seen.items() if np.shape(v) == tokens.shape}
        for name, array in seen.items():
            if np.ndim(array) > 2 and np.shape(array)[:2] == tokens.shape:
                raise ModelError(f"its input {name} has a vector per token; this is not supported")
        picture = Picture(
            {k: np.asarray(v) for k, v in seen.items() if k not in per_token},
            tuple(tokens[0, :stop].tolist()),
            {k: tuple(v[0, :stop].tolist()) for k, v in per_token.items() if k.endswith("_ids")},
            (ahead, behind),
        )
        if self.row(picture, _PROMPT).tokens != tuple(tokens[0].tolist()):
            raise ModelError(
                f"its {type(self._processor).__name__} places text around the image in an unknown "
                "way; this checkpoint is not supported"
            )
        return picture

    def row(
        self, picture: Picture, prompt: str, regions: NDArray[np.bool_] | None = None
    ) -> TokenizedPrompt:
        if regions is not None:
            raise InputError("this model takes no regions")
        text = self._image_text + prompt.join(picture.around)
        with processing_errors():
            after = self._tokenizer(text, add_special_tokens=False)["input_ids"][1:]
        if not after:
            raise InputError("the prompt is empty, and no text follows the image")
        if max(after) >= self._vocabulary:
            word = self._tokenizer.convert_ids_to_tokens(max(after))
            raise InputError(
                f"the prompt has the token {word!r} of number {max(after)}, beyond the model's "
                f"{self._vocabulary} embeddings"
            )
        tokens = (*picture.tokens, *after)
        if len(tokens) > self._context:
            raise InputError(
                f"prompt and image make {len(tokens)} tokens, over the context of {self._context}"
            )
        return TokenizedPrompt(tokens, len(tokens))

    def option_tokens(
        self, picture: Picture, row: TokenizedPrompt, prompt: str, options: Sequence[str]
    ) -> tuple[tuple[int, ...], ...]:
        text = self._image_text + prompt.join(picture.around)
        texts = [text + option for option in options]
        with processing_errors():
            seen = self._tokenizer(texts, add_special_tokens=False)["input_ids"]
        wholes = [(*picture.tokens, *tokens[1:]) for tokens in seen]
        limits = (self._vocabulary, self._context)
        return option_tokens(row, options, wholes, limits, self.reserved)

    def name_tokens(
        self, picture: Picture, row: TokenizedPrompt, prompt: str, start: int, stop: int
    ) -> tuple[int, ...]:
        ahead = self._image_text + picture.around[0]
        text = ahead + prompt + picture.around[1]
        span = (len(ahead) + start, len(ahead) + stop)
        places = span_tokens(self._tokenizer, text, *span, add_special_tokens=False)
        return tuple(len(picture.tokens) - 1 + place for place in places)

    def image_places(self, picture: Picture) -> tuple[int, ...]:
        return tuple(i for i, token in enumerate(picture.tokens) if token == self._image)

    def patch_centres(self, picture: Picture, size: tuple[int, int]) -> NDArray[np.float64]:
        return self._grid.centres(picture.arrays, size, len(self.image_places(picture)))

    def tower_centres(self, picture: Picture, size: tuple[int, int]) -> NDArray[np.float64]:
        return self._grid.tower_centres(picture.arrays, size)

    def decode(self, tokens: Sequence[int]) -> str:
        with processing_errors():
            return str(self._tokenizer.decode(list(tokens), skip_special_tokens=True))

    def reference_inputs(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> Any:
        """Inputs as transformers' own processor makes them, padded on the right."""
        return self._processor(
            images=[[image] for image in images],
            text=[self._text.replace(_PROMPT, prompt) for prompt in prompts],
            add_special_tokens=self._adds_special,
            padding=True,
            padding_side="right",
            return_tensors="pt",
        )

    @property
    def frame(self) -> str:
        return "" if IMAGE in self._template else self._text.replace(_PROMPT, INSTRUCTION)

    def _whole_prompt(self, config: ModelConfig) -> str:
        """The whole prompt as the processor takes it, with _PROMPT in place of the row's prompt."""
        text = config.template.replace(INSTRUCTION, _PROMPT)
        if IMAGE in text:
            names = (getattr(self._processor, "image_token", None), IMAGE)
            return text.replace(IMAGE, next(str(name) for name in names if name))
        if config.frame:
            return config.frame.replace(INSTRUCTION, _PROMPT)
        from vsp.models.chat_template import render_prompt

        return render_prompt(config, self._processor, text)


class AutoVLM(VisionLanguageModel):
    """A model of transformers for image and text, with hooks on its decoder."""

    defaults: ClassVar = ModelConfig(family="auto", quantization="4bit")
    processor: ClassVar[type[AutoProcessor]] = AutoProcessor
    has_forward_only: ClassVar = True
    has_reference: ClassVar = True
    takes_adapter: ClassVar = True
    splits: ClassVar = True
    has_untrained: ClassVar = True

    def __init__(self, config: ModelConfig, devices: Sequence[str] = ()) -> None:
        from vsp.models.adapter import attach
        from vsp.models.capture import Capture
        from vsp.models.loading import load_model
        from vsp.models.vision_tower import find_tower
        from vsp.models.weights import require_finite

        checkpoint = _read_config(config, self.processor.model_types)
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

        checkpoint = _read_config(config, cls.processor.model_types)
        return decoder_shape(checkpoint.get_text_config(), config.dtype, checkpoint.dtype)

    @classmethod
    def tower_shape(cls, config: ModelConfig) -> TowerShape:
        from vsp.models.vision_tower import tower_shape

        return tower_shape(_read_config(config, cls.processor.model_types))

    @classmethod
    def check(cls, config: ModelConfig) -> None:
        from vsp.models.adapter import check_adapter
        from vsp.models.added_tokens import require_few_added
        from vsp.models.hub import local_folder
        from vsp.models.stored_quantization import require_loadable
        from vsp.models.weights import require_whole

        checkpoint = _read_config(config, cls.processor.model_types)
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
        match, _ = match_checkpoint(config, _read_config(config, cls.processor.model_types))
        return holds_head(match)

    @classmethod
    def outline(cls, config: ModelConfig) -> Outline:
        from vsp.models.loading import outline

        return outline(config, *cls.processor.model_types)

    def forward(self, groups: Sequence[PromptGroup], recorded: Recorded = STATES_ONLY) -> Pending:
        model = self._model if recorded.n_options else self._base
        return self._capture.record(
            groups, lambda bundle: model(**self._inputs(bundle), use_cache=False), recorded
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


def _read_config(config: ModelConfig, model_types: Sequence[str]) -> Any:
    """The checkpoint's configuration. Raises ModelError for a model type that is refused."""
    from vsp.models.loading import read_config

    checkpoint = read_config(config, *model_types)
    check_type(checkpoint.model_type)
    for part in checkpoint.sub_configs:
        check_part(getattr(checkpoint, part, None))
    return checkpoint


def _pad_token(checkpoint: Any) -> int:
    """The token that fills sequences; 0 if the checkpoint names none."""
    pad = getattr(checkpoint.get_text_config(), "pad_token_id", None)
    return pad if isinstance(pad, int) and pad >= 0 else 0
