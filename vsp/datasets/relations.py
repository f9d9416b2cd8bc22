"""Labels of relations, and what becomes of them when a picture or a question is turned round."""

from __future__ import annotations

# If A is this of B, then B is that of A.
_PAIRS = (
    ("left_of", "right_of"),
    ("above", "below"),
    ("in_front_of", "behind"),
    ("on", "under"),
    ("larger", "smaller"),
    ("near", "near"),
    ("far", "far"),
)
INVERSE = {a: b for pair in _PAIRS for a, b in (pair, pair[::-1])}

# In a mirror (left and right change places) every other label stays as it is.
MIRRORED = {"left_of": "right_of", "right_of": "left_of"}
