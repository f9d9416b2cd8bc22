"""Labels of relations: tables of the words for each label, and the inverse and mirrored labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vsp.config import read_yaml
from vsp.errors import ConfigError
from vsp.utils.config_files import config_names, find_config
from vsp.utils.spelling import unknown_name

# If the first label holds for (A, B), the second one holds for (B, A).
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

# All other labels are the same in a mirrored picture.
MIRRORED = {"left_of": "right_of", "right_of": "left_of"}

# Axis of the centres (0: x, 1: y, downwards), and whether the subject has the smaller coordinate.
ON_AXIS = {"left_of": (0, True), "right_of": (0, False), "above": (1, True), "below": (1, False)}

_FOLDER = "configs/relations"


@dataclass(frozen=True, slots=True)
class Relations:
    """A table of the words for each label. Words that are not in the table have no label.

    If the table is empty, as `OWN_WORDS` is, the words themselves are the label.
    """

    name: str
    labels: tuple[str, ...]  # in the table's order
    label_of: Mapping[str, str]  # normalized words → label

    def label(self, words: str) -> str:
        """The label for a source's words; "" if the table does not have them."""
        return self.label_of.get(normalize(words), "") if self.label_of else words


OWN_WORDS = Relations("", (), {})


def normalize(words: str) -> str:
    """Lower case, without outer spaces, and with one space between words."""
    return " ".join(words.lower().split())


def read_relations(name: str, work: Path) -> Relations:
    """The table `name` in `configs/relations/`, or the .yaml file at the path `name`.

    Raises ConfigError if the file is no such table or two labels share words.
    """
    path = find_config(name, _FOLDER, work)
    if path is None:
        message = unknown_name("table of relations", name, config_names(_FOLDER, work))
        raise ConfigError(f"{message}, in {_FOLDER}/; or give the path of a .yaml file")
    return parse_relations(name, read_yaml(path), str(path))


def parse_relations(name: str, values: Mapping[Any, Any], source: str) -> Relations:
    """A table from a mapping label → list of words; error messages start with `source`."""
    label_of: dict[str, str] = {}
    for label, listed in values.items():
        if not isinstance(label, str) or not label or label.isspace():
            raise ConfigError(
                f"{source}: label {label!r} is not text; write `label: [words, ...]`, "
                "with quotes around words that YAML does not read as text (on, off, yes, no)"
            )
        if not isinstance(listed, list) or not listed:
            raise ConfigError(f"{source}: {label} {listed!r}: write a list of words, [words, ...]")
        for words in listed:
            if not isinstance(words, str) or not normalize(words):
                raise ConfigError(
                    f"{source}: {label} lists {words!r}, which is not text; put it in quotes"
                )
            other = label_of.setdefault(normalize(words), label)
            if other != label:
                raise ConfigError(
                    f"{source}: {words!r} is listed for {other} and {label}; choose one"
                )
    if not label_of:
        raise ConfigError(f"{source}: has no labels; write `label: [words, ...]`")
    return Relations(name, tuple(values), label_of)
