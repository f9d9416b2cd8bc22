"""Labels of relations: whose words they stand for, and what becomes of them when a picture or a
question is turned round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vsp.config import read_yaml
from vsp.errors import ConfigError
from vsp.utils.config_files import config_names, find_config

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

_FOLDER = "configs/relations"


@dataclass(frozen=True, slots=True)
class Relations:
    """Which words stand for which label: an explicit table, and nothing besides it."""

    name: str
    labels: tuple[str, ...]  # in the table's order
    label_of: Mapping[str, str]  # normal form of a relation's words → label

    def label(self, words: str) -> str:
        """The label of a relation as a source writes it; "" where the table has none."""
        return self.label_of.get(normal(words), "")


def normal(words: str) -> str:
    """Lower case, no space at the ends, one space between words."""
    return " ".join(words.lower().split())


def read_relations(name: str, work: Path) -> Relations:
    """The table `name` in `configs/relations/` below `work`, or in the .yaml file of that path.

    Raises ConfigError for what is no table, and where two labels share words.
    """
    path = find_config(name, _FOLDER, work)
    if path is None:
        known = ", ".join(config_names(_FOLDER, work))
        raise ConfigError(
            f"relations {name!r} are not in {_FOLDER}/; known: {known}; or give the path of a "
            ".yaml file"
        )
    return parse_relations(name, read_yaml(path), str(path))


def parse_relations(name: str, values: Mapping[Any, Any], source: str) -> Relations:
    """A mapping label → list of words, as a table; `source` is for errors."""
    label_of: dict[str, str] = {}
    for label, listed in values.items():
        if not isinstance(label, str) or not label or label.isspace():
            raise ConfigError(
                f"{source}: label {label!r} is no text; write `label: [words, ...]`, "
                "in quotes where YAML reads something else (on, off, yes, no)"
            )
        if not isinstance(listed, list) or not listed:
            raise ConfigError(f"{source}: {label} {listed!r}: write a list of words, [words, ...]")
        for words in listed:
            if not isinstance(words, str) or not normal(words):
                raise ConfigError(f"{source}: {label} lists {words!r}, which is no text; quote it")
            other = label_of.setdefault(normal(words), label)
            if other != label:
                raise ConfigError(f"{source}: {words!r} stands for {other} and {label}; choose one")
    if not label_of:
        raise ConfigError(f"{source}: has no labels; write `label: [words, ...]`")
    return Relations(name, tuple(values), label_of)
