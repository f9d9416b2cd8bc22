"""What lies behind the shapes of a synthetic world: pale lines, patches and words.

It is drawn from a stream of random numbers of its own, which knows nothing of the label.
"""

from __future__ import annotations

import numpy as np

from vsp.datasets.synthetic.shapes import PALE, Mark, WorldConfig

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
    width, height = config.image_size
    places = rng.integers((0, 0) * 2, (width, height) * 2, size=(config.clutter, 4)).tolist()
    reach = min(width, height) // 5
    corners = rng.integers(-reach, reach, size=(config.clutter, 4, 2))
    choices = rng.integers((_INK, len(_WIDTHS)), size=(config.clutter, 2)).tolist()
    marks = []
    for i, (place, (tone, wide)) in enumerate(zip(places, choices, strict=True)):
        # The four corners are in no order: nothing that could pass for one of the shapes.
        patch = (corners[i] + place[:2]).ravel().tolist()
        marks.append(Mark(patch, tone) if i % 2 else Mark(place, tone, _WIDTHS[wide]))
    spoken = rng.integers((width, height, len(WORDS), len(HEIGHTS)), size=(config.words, 4))
    return marks + [
        Mark([x, y], _INK, text=WORDS[word], height=HEIGHTS[high])
        for x, y, word, high in spoken.tolist()
    ]
