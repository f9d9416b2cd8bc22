"""What lies behind the shapes of a synthetic world: pale lines, patches and words.

It is drawn from a stream of random numbers of its own, which knows nothing of the label.
"""

from __future__ import annotations

import numpy as np

from vsp.datasets.shapes import PALE, Mark, WorldConfig

# None is a colour, a shape, a relation, a number or an answer.
WORDS = (
    "bread", "cloud", "door", "field", "garden", "harbour", "island", "journey", "kitchen",
    "letter", "market", "morning", "paper", "river", "salt", "street", "table", "umbrella",
    "village", "window",
)  # fmt: skip
HEIGHTS = (12, 18, 26, 36)  # of a word, pixels
_WIDTHS = (2, 3, 5)  # of a line, pixels
_INK = len(PALE) - 1  # of words; the other tones are those of patches and lines


def behind(config: WorldConfig, rng: np.random.Generator) -> list[Mark]:
    """`config.clutter` lines and patches, half of each, and over them `config.words` words."""
    marks = [
        _patch(config.image_size, rng) if i % 2 else _line(config.image_size, rng)
        for i in range(config.clutter)
    ]
    return marks + [_word(config.image_size, rng) for _ in range(config.words)]


def _line(image_size: tuple[int, int], rng: np.random.Generator) -> Mark:
    ends = rng.integers((0, 0, 0, 0), (*image_size, *image_size))
    width = _WIDTHS[rng.integers(len(_WIDTHS))]
    return Mark(tuple(ends.tolist()), int(rng.integers(_INK)), width)


def _patch(image_size: tuple[int, int], rng: np.random.Generator) -> Mark:
    """Four corners in no order: nothing that could pass for one of the shapes."""
    spread = min(image_size) // 5
    middle = rng.integers((0, 0), image_size)
    corners = (middle + rng.integers(-spread, spread, size=(4, 2))).ravel()
    return Mark(tuple(corners.tolist()), int(rng.integers(_INK)))


def _word(image_size: tuple[int, int], rng: np.random.Generator) -> Mark:
    place = rng.integers((0, 0), image_size)
    text, height = WORDS[rng.integers(len(WORDS))], HEIGHTS[rng.integers(len(HEIGHTS))]
    return Mark(tuple(place.tolist()), _INK, text=text, height=height)
