"""Pale lines, patches and words behind the shapes of a synthetic world.

They are drawn from their own random stream, which does not depend on the label.
"""

from __future__ import annotations

import numpy as np

from vsp.datasets.synthetic.shapes import PALE, Mark, WorldConfig

# None of these words names a colour, shape, relation, number or answer.
WORDS = (
    "bread", "cloud", "door", "field", "garden", "harbour", "island", "journey", "kitchen",
    "letter", "market", "morning", "paper", "river", "salt", "street", "table", "umbrella",
    "village", "window",
)  # fmt: skip
HEIGHTS = (12, 18, 26, 36)  # of words, pixels
_WIDTHS = (2, 3, 5)  # of lines, pixels
_WORD_TONE = len(PALE) - 1  # patches and lines use the other tones


def clutter_marks(config: WorldConfig, rng: np.random.Generator) -> list[Mark]:
    """`config.clutter` lines and patches, in turn, and above them `config.words` words."""
    width, height = config.image_size
    places = rng.integers((0, 0) * 2, (width, height) * 2, size=(config.clutter, 4)).tolist()
    reach = min(width, height) // 5
    corners = rng.integers(-reach, reach, size=(config.clutter, 4, 2))
    choices = rng.integers((_WORD_TONE, len(_WIDTHS)), size=(config.clutter, 2)).tolist()
    marks = []
    for i, (place, (tone, line_width)) in enumerate(zip(places, choices, strict=True)):
        # The four corners are in random order, so a patch does not look like one of the shapes.
        patch = (corners[i] + place[:2]).ravel().tolist()
        marks.append(Mark(patch, tone) if i % 2 else Mark(place, tone, _WIDTHS[line_width]))
    words = rng.integers((width, height, len(WORDS), len(HEIGHTS)), size=(config.words, 4))
    return marks + [
        Mark([x, y], _WORD_TONE, text=WORDS[word], height=HEIGHTS[size])
        for x, y, word, size in words.tolist()
    ]
