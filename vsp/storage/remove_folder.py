"""Remove folders: all of them get another name first, so that no half of a run is ever found.

Links are removed, never followed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from vsp.errors import DiskError
from vsp.utils.files import sync_folder


def remove_folders(folders: Sequence[Path]) -> None:
    """Remove the folders, or none of them if one cannot be renamed.

    Raises DiskError if a folder cannot be renamed, and, with the place of what is left, if its files
    cannot be removed.
    """
    asides: list[tuple[Path, Path]] = []
    for folder in folders:
        aside = folder.parent / f".{folder.name}.removed-{os.urandom(4).hex()}"
        try:
            folder.rename(aside)
        except OSError as error:
            _put_back(asides)
            raise DiskError(
                f"{folder}: cannot be renamed ({_reason(error)}), so nothing was removed; make its folder "
                "writable and run the same command again"
            ) from error
        asides.append((folder, aside))
    for _, aside in asides:
        _remove(aside)


def _put_back(asides: Sequence[tuple[Path, Path]]) -> None:
    for folder, aside in reversed(asides):
        try:
            aside.rename(folder)
        except OSError as error:
            raise DiskError(
                f"{aside}: was {folder} and cannot be renamed back ({_reason(error)}); rename it"
            ) from error


def _remove(aside: Path) -> None:
    try:
        if aside.is_symlink():
            aside.unlink()
        else:
            shutil.rmtree(aside)
        sync_folder(aside.parent)
    except OSError as error:
        raise DiskError(
            f"{error.filename or aside}: cannot be removed ({_reason(error)}); the rest of the folder is "
            f"{aside}: remove it"
        ) from error


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
