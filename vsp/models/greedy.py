"""Greedy decoding: the most likely token, one after another, by transformers' own `generate`.

A checkpoint's generation_config.json may ask for sampling, penalties or banned words. Only its end
tokens are used.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from transformers import GenerationConfig

from vsp.errors import ModelError
from vsp.models.weights import quiet_transformers, require_finite
from vsp.utils.text import shorten

_log = logging.getLogger(__name__)
# Settings that change no token of greedy decoding.
_HARMLESS = {
    "bos_token_id", "cache_config", "cache_implementation", "compile_config", "disable_compile",
    "eos_token_id", "max_cache_len", "max_length", "max_new_tokens", "output_attentions",
    "output_hidden_states", "output_logits", "output_scores", "pad_token_id",
    "prefill_chunk_size", "return_dict_in_generate", "transformers_version", "use_cache",
}  # fmt: skip
_LONGEST = 300  # characters of the settings in a message


class GreedyDecoder:
    """Continues one prompt at a time by a model of transformers."""

    def __init__(self, model: Any, own_end_tokens: Sequence[int] = ()) -> None:
        """`own_end_tokens` end a text besides those of the checkpoint.

        The log says which settings of the checkpoint are ignored. Raises ModelError if the model
        cannot generate, if weights of its head are missing, or if an end token is not a number.
        """
        if not model.can_generate():
            raise ModelError(f"a {type(model).__name__} of transformers generates no text")
        head = model.get_output_embeddings()
        if head is not None:
            require_finite(head, "the head of the model (lm_head)")
        self._model = model
        given = model.generation_config
        self._end_tokens = sorted({*_end_tokens(given, model.config), *own_end_tokens})
        ignored = ignored_settings(given)
        if ignored:
            _log.info("greedy decoding ignores settings of the checkpoint: %s", ignored)
        # transformers completes the settings of a call with those of the model.
        model.generation_config = GenerationConfig()

    def tokens(self, most: int, **inputs: Any) -> tuple[int, ...]:
        """The next tokens of a prompt, at most `most`, without the end token.

        `inputs` are those of the model for one sequence without padding.
        """
        end = self._end_tokens
        settings = GenerationConfig(
            do_sample=False,
            num_beams=1,
            max_new_tokens=most,
            eos_token_id=end or None,
            pad_token_id=end[0] if end else 0,
        )
        with quiet_transformers():  # for example, Janus passes settings that it warns of
            sequence = self._model.generate(**inputs, generation_config=settings)[0].tolist()
        prompt = inputs.get("input_ids")  # a prompt of embeddings is not part of the sequence
        new = sequence if prompt is None else sequence[prompt.shape[1] :]
        return tuple(new[:-1] if new and new[-1] in end else new)


def ignored_settings(given: GenerationConfig) -> str:
    """The settings of a checkpoint that could change a token: "temperature 0.1, top_k 1"."""
    changed = {
        name: value
        for name, value in given.to_diff_dict().items()
        if name not in _HARMLESS
        and not name.startswith("_")
        # 0 and 1 switch a setting off.
        and (value is True or value not in (None, 0, 1))
    }
    return shorten(", ".join(f"{name} {changed[name]}" for name in sorted(changed)), _LONGEST)


def _end_tokens(given: GenerationConfig, config: Any) -> list[int]:
    """The end tokens of generation_config.json, or else of config.json."""
    text = config.get_text_config()
    end = given.eos_token_id
    end = getattr(text, "eos_token_id", None) if end is None else end
    tokens = end if isinstance(end, list) else [] if end is None else [end]
    for token in tokens:
        if type(token) is not int:
            raise ModelError(
                f"eos_token_id {shorten(repr(token), 50)} is not a number; correct it in "
                "generation_config.json or config.json of the checkpoint"
            )
    # Other numbers end no text. Configurations have them by default.
    return [token for token in tokens if 0 <= token < text.vocab_size]
