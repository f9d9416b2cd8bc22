"""Any vision-language model that transformers loads for image and text.

Its checkpoint's own processor and chat template make the input; hooks take what is asked for. The
families `llava15` and `qwen2` are this one with their own defaults and checks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vsp.config import Frozen, ModelConfig, parse
from vsp.errors import InputError, ModelError
from vsp.models import Group, ModelShape, Picture, Row, States

if TYPE_CHECKING:
    import torch

    from vsp.models.outline import Outline
    from vsp.models.prefix_sharing import Bundle

IMAGE = "<image>"  # where a template puts the image, whatever the model calls it
_MOST_SKEWED = 200  # one side over the other
_BRACKETS = re.compile(r"<[^<>\s]+>|\[[^\[\]\s]+\]")
_PROMPT = "Qzx"  # stands for a row's prompt while what is around it is found out


class NoOptions(Frozen):
    """A family that takes none."""


class AutoProcessor:
    """The checkpoint's processor for one image and text, without its video part, which would need
    torchvision; images always go through Pillow, so that every machine sees the same pixels."""

    model_types: ClassVar[tuple[str, ...]] = ()  # which checkpoints are right; none named: any
    options: ClassVar[type[Frozen]] = NoOptions  # passed on to the image processor

    def __init__(self, config: ModelConfig) -> None:
        from vsp.models.checkpoints import reading
        from vsp.models.loading import read_config

        checkpoint = read_config(config, *self.model_types)
        chosen = parse(self.options, config.options, f"model {config.family}: options")
        limits = {key: value for key, value in chosen if value is not None}
        with reading(config, "tokenizer or image processor"):
            self._processor = _read_processor(config, checkpoint, limits)
        self._tokenizer = self._processor.tokenizer
        self._tokenizer.model_max_length = 10**9  # what is too long is refused, not warned of
        self._processor.tokenizer = self._asked = _Listening(self._tokenizer)
        self._image = checkpoint.image_token_id
        self._text = self._whole_prompt(config)
        bos = self._tokenizer.bos_token  # once: some chat templates begin with it
        self._adds_special = bos is None or not self._text.startswith(bos)
        self._reserved = any_of(reserved_tokens(self._tokenizer))
        context = getattr(checkpoint.get_text_config(), "max_position_embeddings", None)
        self._context = context or 10**9

    @property
    def crops(self) -> bool:
        """Whether of an image that is not square only the middle is kept."""
        return bool(getattr(self._processor.image_processor, "do_center_crop", False))

    def reserved(self, prompt: str) -> str | None:
        found = self._reserved.search(prompt)
        return found[0] if found else None

    def picture(self, image: Image.Image) -> Picture:
        if max(image.size) > _MOST_SKEWED * min(image.size):
            raise InputError(f"image of {image.width} × {image.height} is a thread; crop or pad it")
        try:
            seen = self._processor(
                images=[[image]],
                text=[self._text],
                add_special_tokens=self._adds_special,
                return_tensors="np",
            )
        except ValueError as error:  # such as sides in a ratio of more than 200
            raise InputError(f"image cannot be used: {error}") from None
        tokens = np.asarray(seen.pop("input_ids"))
        stop = int(np.flatnonzero(tokens[0] == self._image)[-1]) + 1
        image_text = self._tokenizer.convert_ids_to_tokens(self._image)
        ahead, _, behind = self._asked.text.rpartition(image_text)[2].partition(_PROMPT)
        per_token = {k: v for k, v in seen.items() if np.shape(v) == tokens.shape}
        for name, array in seen.items():
            if np.ndim(array) > 2 and np.shape(array)[:2] == tokens.shape:
                raise ModelError(f"its {name} says something of each token; it is not supported")
        picture = Picture(
            {k: np.asarray(v) for k, v in seen.items() if k not in per_token},
            tuple(tokens[0, :stop].tolist()),
            {k: tuple(v[0, :stop].tolist()) for k, v in per_token.items() if k.endswith("_ids")},
            (ahead, behind),
        )
        if self.row(picture, _PROMPT).tokens != tuple(tokens[0].tolist()):
            raise ModelError(
                f"its {type(self._processor).__name__} lays out prompts in a way that is not known "
                "here; this checkpoint is not supported"
            )
        return picture

    def row(self, picture: Picture, prompt: str) -> Row:
        # The image's last token stands in front, as some tokenizers treat a text's start apart.
        text = self._tokenizer.convert_ids_to_tokens(self._image) + prompt.join(picture.around)
        after = self._tokenizer(text, add_special_tokens=False)["input_ids"][1:]
        if not after:
            raise InputError("the prompt is empty, and nothing follows the image")
        tokens = (*picture.tokens, *after)
        if len(tokens) > self._context:
            raise InputError(
                f"prompt and image make {len(tokens)} tokens, over the context of {self._context}"
            )
        return Row(tokens, len(tokens))

    def plain(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> Any:
        """Whole rows as transformers' own processor makes them, padded on the right."""
        return self._processor(
            images=[[image] for image in images],
            text=[self._text.replace(_PROMPT, prompt) for prompt in prompts],
            add_special_tokens=self._adds_special,
            padding=True,
            padding_side="right",
            return_tensors="pt",
        )

    def _whole_prompt(self, config: ModelConfig) -> str:
        """The text of a prompt, with _PROMPT for the row's own, as the processor takes it."""
        text = config.template.replace("{instruction}", _PROMPT)
        if IMAGE in text:
            names = (getattr(self._processor, "image_token", None), IMAGE)
            return text.replace(IMAGE, next(str(name) for name in names if name))
        content = [{"type": "image"}, {"type": "text", "text": text}]
        whole: str = self._tokenizer.apply_chat_template(
            [{"role": "user", "content": content}],
            chat_template=_chat_template(config, self._processor),
            add_generation_prompt=True,
            tokenize=False,
        )
        if whole.count(_PROMPT) != 1:
            raise ModelError(f"its chat template puts a prompt {whole.count(_PROMPT)} times")
        return whole


class _Listening:
    """A tokenizer that remembers the text it was given last, with all that stands for an image."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.text = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def __call__(self, text: Any = None, **arguments: Any) -> Any:
        self.text = text[-1]
        return self._tokenizer(text, **arguments)


class AutoVLM:
    """See the module."""

    defaults: ClassVar = ModelConfig(family="auto", quantization="4bit")
    processor: ClassVar[type[AutoProcessor]] = AutoProcessor

    def __init__(self, config: ModelConfig) -> None:
        from vsp.models.capture import Capture
        from vsp.models.loading import load_model, read_config

        checkpoint = read_config(config, *self.processor.model_types)
        self._model, self._language = load_model(config, checkpoint, self.shape(config).dtype)
        # Without lm_head: no states need logits.
        self._base = getattr(self._model, "model", self._model)
        self._capture = Capture(self._language, _padding(checkpoint))

    @classmethod
    def shape(cls, config: ModelConfig) -> ModelShape:
        from vsp.models.loading import decoder_shape, read_config

        parse(cls.processor.options, config.options, f"model {config.family}: options")
        checkpoint = read_config(config, *cls.processor.model_types)
        return decoder_shape(checkpoint.get_text_config(), config.dtype, checkpoint.dtype)

    @classmethod
    def check(cls, config: ModelConfig) -> None:
        from vsp.models.checkpoints import check_weights

        if config.weights == "checkpoint":
            check_weights(config)

    @classmethod
    def outline(cls, config: ModelConfig) -> Outline:
        from vsp.models.loading import outline

        return outline(config, *cls.processor.model_types)

    def forward(self, groups: Sequence[Group]) -> States:
        return self._capture.last_tokens(groups, lambda *given: self._pass(*given)())

    def bare(self, groups: Sequence[Group]) -> Callable[[], None]:
        """The forward pass of `forward` alone, on tensors that are on the device already."""
        return self._capture.bare(groups, self._pass)

    def _pass(self, groups: Sequence[Group], laid: Bundle) -> Callable[[], object]:
        inputs = self._inputs(groups, laid)
        return lambda: self._base(**inputs, use_cache=False)

    def plain(self, inputs: Any) -> NDArray[np.floating]:
        """What a script of a few lines does: one forward pass of transformers, every hidden state
        of every token, and of these the last token's `[layer, row, hidden]`.

        `inputs` are those of `AutoProcessor.plain`. `vsp bench` measures against it; no stage
        uses it.
        """
        import torch

        inputs = inputs.to(self._model.device, self._model.dtype)
        with torch.inference_mode():
            hidden = self._model(**inputs, output_hidden_states=True, use_cache=False).hidden_states
        last = inputs["attention_mask"].sum(dim=1) - 1
        rows = torch.arange(len(last), device=last.device)
        states = torch.stack([layer[rows, last] for layer in hidden])
        return np.asarray(states.float().cpu().numpy())

    def _inputs(self, groups: Sequence[Group], laid: Bundle) -> dict[str, torch.Tensor]:
        """What the whole model takes: trunks, what their tokens are, and pictures."""
        from vsp.models.loading import to_device
        from vsp.models.prefix_sharing import moved

        device, dtype = self._base.device, self._base.dtype
        shape = laid.trunks.shape
        real = np.arange(shape[1]) < laid.trunk_lengths[:, None]
        inputs: dict[str, torch.Tensor] = {
            "input_ids": moved(laid.trunks, device),
            "attention_mask": moved(real.astype(np.int64), device),
        }
        for name in groups[0].picture.kinds:
            kinds = np.zeros(shape, np.int64)
            for i, group in enumerate(groups):
                kinds[i, : len(group.picture.tokens)] = group.picture.kinds[name]
            inputs[name] = moved(kinds, device)
        for name, array in join([group.picture.arrays for group in groups]).items():
            inputs[name] = to_device(array, device, dtype)
        return inputs


def reserved_tokens(tokenizer: Any) -> list[str]:
    """What a tokenizer reads as tokens of its own: special ones, and others in brackets."""
    added = tokenizer.added_tokens_decoder.values()
    return [t.content for t in added if t.special or _BRACKETS.fullmatch(t.content)]


def any_of(texts: Sequence[str]) -> re.Pattern[str]:
    """Finds any of the texts, the longest where several begin."""
    return re.compile("|".join(map(re.escape, sorted(texts, key=len, reverse=True))) or r"(?!)")


def join(pictures: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """The arrays of several pictures as one of each name, along the first axis.

    Other axes grow by zeros to the longest, as processors fill up tiles.
    """
    joined = {}
    for name in pictures[0]:
        arrays = [picture[name] for picture in pictures]
        longest = (
            np.max([array.shape[1:] for array in arrays], axis=0) if arrays[0].ndim > 1 else ()
        )
        joined[name] = np.concatenate([_grown(array, longest) for array in arrays])
    return joined


def _grown(array: NDArray[Any], longest: Any) -> NDArray[Any]:
    if array.ndim < 2 or array.shape[1:] == tuple(longest):
        return array
    return np.pad(
        array, [(0, 0), *((0, n - m) for n, m in zip(longest, array.shape[1:], strict=True))]
    )


def _padding(checkpoint: Any) -> int:
    """A token that stands for nothing: the tokenizer's own, or any but the image's."""
    pad = getattr(checkpoint.get_text_config(), "pad_token_id", None)
    return pad if isinstance(pad, int) and pad >= 0 else 0


def _read_processor(config: ModelConfig, checkpoint: Any, options: Mapping[str, Any]) -> Any:
    import transformers
    from transformers import AutoImageProcessor, AutoTokenizer
    from transformers.models.auto import processing_auto

    names: Mapping[str, str] = vars(processing_auto)["PROCESSOR_MAPPING_NAMES"]
    name = names.get(checkpoint.model_type)
    if name is None or not hasattr(checkpoint, "image_token_id"):
        raise ModelError(
            f"a {checkpoint.model_type} has no processor of images and text in transformers; "
            "name another --checkpoint"
        )
    base: Any = getattr(transformers, name)
    where = {"revision": config.revision, "trust_remote_code": False}
    parts = {
        # With torchvision about, the default would be another processor with other pixels.
        "image_processor": AutoImageProcessor.from_pretrained(
            config.checkpoint, backend="pil", **where, **options
        ),
        "tokenizer": AutoTokenizer.from_pretrained(config.checkpoint, **where),
    }

    class WithoutVideo(base):
        @classmethod
        def get_attributes(cls) -> list[str]:
            return [part for part in super().get_attributes() if part in parts]

    WithoutVideo.__name__ = base.__name__  # processors look their defaults up by name
    values, _ = WithoutVideo.get_processor_dict(str(config.checkpoint), **where)
    if checkpoint.model_type == "llava":  # older checkpoints leave these to the reader
        values |= {
            "patch_size": checkpoint.vision_config.patch_size,
            "vision_feature_select_strategy": checkpoint.vision_feature_select_strategy,
            "num_additional_image_tokens": 1,  # CLIP's class token
        }
    return WithoutVideo.from_args_and_dict(
        [parts[p] for p in WithoutVideo.get_attributes()], values
    )


def _chat_template(config: ModelConfig, processor: Any) -> str:
    """The processor's template, the tokenizer's, or one that an older checkpoint keeps apart."""
    for template in (processor.chat_template, processor.tokenizer.chat_template):
        if template is not None:
            return str(template)
    from transformers.utils.hub import cached_file

    path = cached_file(
        str(config.checkpoint),
        "chat_template.json",
        revision=config.revision,
        _raise_exceptions_for_missing_entries=False,
    )
    if path is None:
        raise ModelError(
            f"checkpoint {config.checkpoint!r} has no chat template; write the whole prompt, with "
            f"{IMAGE} in it, as `template` of a file in configs/models/"
        )
    return str(json.loads(Path(path).read_bytes())["chat_template"])
