"""Bounds on the tokens that the files of a tokenizer add, checked before a library reads them.

transformers builds each added token on its own, and fills the numbers up to the largest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from vsp.errors import ModelError
from vsp.utils.reading import read_json
from vsp.utils.text import shorten

MAX_ADDED = 1 << 16  # tokens besides those of the vocabulary's model; Emu3 has 33,000
MAX_TOKEN = 1 << 20  # the number of an added token; the largest vocabularies have 2^18 tokens
_MAX_TOKENIZER = 1 << 26  # bytes
_EXTRA = ("additional_special_tokens", "extra_special_tokens")
# The files of a tokenizer, and where in them tokens are added; "": the whole file.
_ADDED: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "tokenizer_config.json": ("added_tokens_decoder", *_EXTRA),
    "special_tokens_map.json": _EXTRA,
    "added_tokens.json": ("",),
    "tokenizer.json": ("added_tokens",),
})  # fmt: skip


def require_few_added(folder: Path) -> None:
    """Raise ModelError if the files of a tokenizer add too many tokens: each is built on its own."""
    for name, keys in _ADDED.items():
        path = folder / name
        try:
            if path.stat().st_size < 8 * MAX_ADDED and name == "tokenizer.json":
                continue  # too short for so many
            values = read_json(path, _MAX_TOKENIZER)
        except (OSError, ValueError, RecursionError):
            continue  # said by whoever reads the tokenizer
        for key in keys if isinstance(values, dict) else ():
            added = values.get(key) if key else values
            if isinstance(added, (list, dict)):
                _require_few(f"{path}: {key}".removesuffix(": "), added)


def _require_few(where: str, added: Sequence[Any] | Mapping[str, Any]) -> None:
    if len(added) > MAX_ADDED:
        raise ModelError(
            f"{where} has {len(added):,} tokens, more than {MAX_ADDED:,}; put them into the vocabulary of "
            "the tokenizer's model, or use another checkpoint"
        )
    # The numbers of tokens are keys in one file and values in another.
    numbers = [*added, *added.values()] if isinstance(added, dict) else []
    large = [n for n in map(str, numbers) if n.isdecimal() and (len(n) > 9 or int(n) > MAX_TOKEN)]
    if large:
        raise ModelError(
            f"{where} has a token of number {shorten(large[0], 20)}, more than {MAX_TOKEN}; correct it, or use "
            "another checkpoint"
        )
