"""Small tokenizers of the kinds that models have: where a token begins and what its offsets are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

# How Llama 3 and Qwen split a text: a word may begin with a space or a mark.
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def byte_level(texts: Sequence[str], trim_offsets: bool) -> PreTrainedTokenizerFast:
    """As Llama 3's and Qwen's; their offsets differ in the space ahead of a word."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(WORDS), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=trim_offsets)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=700, initial_alphabet=letters, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def sentencepiece(texts: Sequence[str], normalizer: dict[str, Any]) -> PreTrainedTokenizerFast:
    """As those of Llama 2 and Gemma: a word begins with "▁", and unknown letters become bytes."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Punctuation(), pre_tokenizers.Metaspace(prepend_scheme="first")]
    )
    special = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=special, limit_alphabet=50, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    settings = json.loads(tokenizer.to_str())
    settings |= {"pre_tokenizer": None, "normalizer": normalizer, "added_tokens": []}
    tokenizer = Tokenizer.from_str(json.dumps(settings))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def with_merge(first: str, second: str) -> PreTrainedTokenizerFast:
    """Letters, of which two that follow each other become one token."""
    letters = dict.fromkeys(["a", "b", "c", " ", "'", first, second, first + second])
    vocabulary = {letter: number for number, letter in enumerate(letters)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [(first, second)]))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)
