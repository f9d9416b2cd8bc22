"""The message where a folder of the project holds nothing: it is often the wrong working folder."""

from __future__ import annotations

import os
from pathlib import Path


def nothing_in(folder: Path, what: str, advice: str) -> str:
    """The message that `folder`, such as scratch/, holds no `what`, with the path in full.

    The folder need not exist. `advice` says how to make one.
    """
    path = os.path.abspath(folder)  # noqa: PTH100 - links stay links
    return f"{path}: holds no {what}; run vsp in the project folder, or {advice}"
