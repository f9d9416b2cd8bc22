"""Decides which results a browser may see: those in `results/`, without links that lead out of it."""

from __future__ import annotations

import os
from pathlib import Path

from vsp.errors import RunError
from vsp.storage.results import Results


def setting_folder(results: Results) -> str:
    """Where results lie below `results/RUN/`; empty for those in this folder itself."""
    folder = results.folder.absolute().relative_to(results.home.absolute())
    return "" if folder == Path() else folder.as_posix()


def check_inside(folder: Path, root: Path) -> None:
    """Raise RunError if the folder, or a link in it, leads out of `root`, which may itself be a link.

    A link that leads to itself leads nowhere, so it stays inside.
    """
    real = os.path.realpath(root)
    for path in (folder, *_links(folder)):
        if not Path(os.path.realpath(path)).is_relative_to(real):
            raise RunError(
                f"{path}: leads out of {root}, so it is not shown here; copy the results into this "
                "folder"
            )


def _links(folder: Path) -> list[Path]:
    entries = [
        Path(parent) / name
        for parent, folders, names in os.walk(folder)
        for name in (*folders, *names)
    ]
    return [path for path in entries if path.is_symlink()]
