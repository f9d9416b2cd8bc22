"""The real annotation files, which lie beside a checkout and not in it."""

from __future__ import annotations

from pathlib import Path

from conftest import ROOT

DATA = ROOT.parent / "shared" / "data"


def real(name: str) -> Path:
    """A file of them; without it a test fails, and is not passed over."""
    path = DATA / name
    assert path.exists(), f"{path} is missing: the real annotations belong beside the checkout"
    return path
