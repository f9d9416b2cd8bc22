"""The dataset that `vsp bench` generates: photographs and questions about them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

_MEAN_ROWS, _MAX_ROWS = 5.5, 23  # per image, as in VRD's spatial relations (Kaggle layout)
_SIZE = (640, 480)
_BOX_SIZE = (200, 150)
_NAMES = ("person", "traffic light", "red surfboard", "man in a hat", "tree", "old bicycle")
# As answers, they have 1, 2, 3 and 3 tokens with the demo checkpoint and with most tokenizers.
_LABELS = ("above", "left_of", "to_the_left", "right_of_the")


def rows_per_image(n_rows: int) -> list[int]:
    """Rows of each image, `n_rows` in total: a geometric distribution with VRD's mean."""
    rng = np.random.default_rng(0)
    counts: list[int] = []
    while (left := n_rows - sum(counts)) > 0:
        counts.append(min(int(rng.geometric(1 / _MEAN_ROWS)), _MAX_ROWS, left))
    return counts


def write_dataset(folder: Path, counts: Sequence[int]) -> None:
    """Write JPEGs of a photograph's size, and questions of different lengths: one count an image."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    records: list[dict[str, Any]] = []
    for i, n in enumerate(counts):
        small = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8))
        small.resize(_SIZE, Image.Resampling.BICUBIC).save(folder / f"images/{i}.jpg", quality=90)
        for _ in range(n):
            subject, reference = rng.choice(_NAMES, 2, replace=False).tolist()
            number = len(records)
            records.append(
                {
                    "id": str(number),
                    "image_filename": f"{i}.jpg",
                    "subject": subject,
                    "reference": reference,
                    "subject_box": _box(rng),
                    "reference_box": _box(rng),
                    "label": _LABELS[number % len(_LABELS)],
                }
            )
    (folder / "metadata.json").write_text(json.dumps(records))


def _box(rng: np.random.Generator) -> list[int]:
    """A box in the middle of the image, which processors that crop to a square keep."""
    left = int(rng.integers(_SIZE[0] // 4, 3 * _SIZE[0] // 4 - _BOX_SIZE[0]))
    top = int(rng.integers(0, _SIZE[1] - _BOX_SIZE[1]))
    return [left, top, left + _BOX_SIZE[0], top + _BOX_SIZE[1]]
