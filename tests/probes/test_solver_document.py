"""docs/solver.md names functions that exist."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).parents[2] / "docs" / "solver.md"
NAMES = sorted(set(re.findall(r"vsp\.probes(?:\.\w+)+", DOCUMENT.read_text(encoding="utf-8"))))


def test_the_document_names_functions():
    assert len(NAMES) > 20


@pytest.mark.parametrize("name", NAMES)
def test_every_name_in_the_document_exists(name):
    assert "._" not in name
    parts = name.split(".")
    for length in range(len(parts), 1, -1):
        try:
            value = import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[length:]:
            value = getattr(value, attribute)
        return
    raise AssertionError(f"{name} does not exist")
