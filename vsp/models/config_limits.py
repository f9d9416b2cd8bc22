"""Bounds on the numbers of a model's configuration, checked before a library builds anything of them.

200,000 layers would take hours to build, even without weights, and a vocabulary of 2^62 cannot be
counted. The bounds lie far above every published model.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vsp.errors import ModelError
from vsp.utils.reading import read_json, unreadable
from vsp.utils.text import shorten

MAX_CONFIG = 1 << 22  # bytes of a configuration; those of models with many labels have 200 kB
MAX_LAYERS = 512  # Llama 3.1 405B has 126
MAX_EXPERTS = 1 << 14  # in a layer; published models have up to 512
MAX_SIZE = 1 << 24  # a width or a vocabulary; the largest vocabularies have 2^18 tokens
MAX_IMAGE = 1 << 14  # pixels of a side
MAX_PATCHES = 1 << 16  # of an image; published towers have up to 20,736
MAX_POSITIONS = 1 << 30  # tokens of a context; Llama 4 Scout has 10,485,760
_MAX_DEPTH = 32  # nested mappings and lists
_MAX_ITEMS = 100_000  # in one list or mapping

_LAYERS = re.compile(r"(^|_)(layers?|depths?|blocks?|stages?)$")
_SIZES = re.compile(r"(_size|_dim|_dims|_heads|_rank|_channels|_width|^width)$")
_IMAGE = re.compile(r"(image|img|crop|patch)_size$")
# The model cannot be built if one of these is 0.
_POSITIVE = frozenset(
    ("hidden_size", "image_size", "num_attention_heads", "num_channels", "num_hidden_layers",
     "num_key_value_heads", "patch_size", "vocab_size")
)  # fmt: skip
_TOKEN = re.compile(r"_token_(id|ids|index)$")
_POSITIONS = re.compile(r"(position_embeddings|_positions)$")
# Lists of these keys hold a size for each stage of a tower.
_LAYERS_EACH = re.compile(r"^(num_|n_)?(layers?|depths?|blocks?|stages?)$|_depths?$")
_LIMIT = re.compile(r"(^|_)(limit|max|min)$")  # infinite: none


def read_model_config(path: Path) -> dict[str, Any]:
    """The values of a model's config.json.

    Raises ModelError if it cannot be read, is no configuration, or holds a number beyond the bounds.
    """
    try:
        values = read_json(path, MAX_CONFIG)
    except FileNotFoundError:
        raise ModelError(
            f"{path}: no such file; the checkpoint is incomplete, download it again"
        ) from None
    except OSError as error:
        raise ModelError(f"{path}: {unreadable(error)}; download the checkpoint again") from None
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: is not JSON ({error}); download the checkpoint again") from None
    if not isinstance(values, dict):
        raise ModelError(f"{path}: holds a {type(values).__name__}, not a configuration")
    for place, problem in _problems(values, "", 0):
        raise ModelError(f"{path}: {place} {problem}; correct it, or use another checkpoint")
    return values


def _problems(value: Any, place: str, depth: int) -> Iterator[tuple[str, str]]:
    """Each number that is out of bounds: where it stands, and what is wrong."""
    if depth > _MAX_DEPTH:
        yield place[:80], f"is nested more than {_MAX_DEPTH} deep"
        return
    if isinstance(value, (dict, list)) and len(value) > _MAX_ITEMS:
        yield place, f"has {len(value):,} entries, more than {_MAX_ITEMS:,}"
    elif isinstance(value, dict):
        for key, inner in value.items():
            name = shorten(str(key), 100)
            yield from _problems(inner, f"{place}.{name}" if place else name, depth + 1)
        yield from _patch_problems(value, place)
    elif isinstance(value, list):
        key = place.rpartition(".")[2]
        if _LAYERS.search(key) and not _LAYERS_EACH.search(key):
            return  # the numbers of some layers, such as those whose states are used
        for inner in value:
            yield from _problems(inner, place, depth + 1)
        if key == "layer_types" and len(value) > MAX_LAYERS:
            yield place, f"names {len(value):,} layers, more than {MAX_LAYERS}"
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        problem = _number_problem(place.rpartition(".")[2], value)
        if problem:
            yield place, problem


def _patch_problems(values: Mapping[str, Any], place: str) -> Iterator[tuple[str, str]]:
    """A tower with too many patches: transformers numbers them when it builds one."""
    sides = [_numbers(values.get(key)) for key in ("image_size", "img_size")]
    image, patch = max(map(max, filter(None, sides)), default=0), _numbers(values.get("patch_size"))
    if patch and min(patch) > 0 and (image // min(patch)) ** 2 > MAX_PATCHES:
        yield (
            f"{place}.image_size" if place else "image_size",
            f"is {image} and patch_size {min(patch)}, which makes {(image // min(patch)) ** 2:,} patches, "
            f"more than {MAX_PATCHES:,}",
        )


def _numbers(value: Any) -> list[int]:
    """The whole numbers of a size: one, a list, or a mapping of height and width."""
    some = (
        value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
    )
    return [n for n in some if isinstance(n, int)]


def _number_problem(key: str, value: float) -> str:
    """The problem of a number; "" if there is none."""
    if isinstance(value, float):
        fine = math.isfinite(value) or (math.isinf(value) and _LIMIT.search(key))
        return "" if fine else f"is {value}, not a finite number"
    most, least = _bounds(key)
    if abs(value) >= 1 << 70 and not least <= value <= most:
        # The digits would fill the screen.
        return f"has {len(str(abs(value)))} digits; it may be from {least:.0f} to {most:.0f}"
    if value > most:
        return f"is {value}, more than {most:.0f}"
    return f"is {value}, less than {least:.0f}" if value < least else ""


def _bounds(key: str) -> tuple[float, float]:
    """The largest and the smallest value that a whole number of this key may have.

    Only numbers that size a model have bounds. Others may be any: a `max_length` of 10^30 stands for
    none, and a token of -200 for a place that holds no token.
    """
    least = 1 if key in _POSITIVE else -math.inf
    if "expert" in key:
        return (MAX_SIZE if _SIZES.search(key) else MAX_EXPERTS), least
    for pattern, most in (
        (_IMAGE, MAX_IMAGE),
        (_LAYERS, MAX_LAYERS),
        (_SIZES, MAX_SIZE),
        (_TOKEN, MAX_SIZE),
        (_POSITIONS, MAX_POSITIONS),
    ):
        if pattern.search(key):
            return most, least
    return math.inf, least


def require_sizes(checkpoint: Any, where: str) -> None:
    """Raise ModelError unless a configuration that transformers has read says how large a model is.

    `checkpoint` is the configuration of the language model.
    """
    for name in ("num_hidden_layers", "hidden_size"):
        value = getattr(checkpoint, name, None)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ModelError(
                f"checkpoint {where!r}: {name} of its language model is {value!r}, not a whole number "
                "from 1 on; correct it in config.json"
            )
