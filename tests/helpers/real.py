"""Real annotations and photographs. They lie beside the checkout, because we may not ship them.

`../shared/data/` holds vrd/ (annotations_{train,test}.json, objects.json, predicates.json,
test_image_metadata.json, sg_train_relation_counts.txt, sg_dataset_authentic_fragment/), vsr/splits/
and whatsup/. In CI they must exist.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers.paths import ROOT

DATA = ROOT.parent / "shared" / "data"


def real(name: str) -> Path:
    """The path of a file or folder of the real data. Skips the test if it is missing, except in CI."""
    path = DATA / name
    if not path.exists() and os.environ.get("CI") != "true":
        pytest.skip(f"{path} is not there")
    assert path.exists(), f"{path} is missing: the real data belong beside the checkout"
    return path
