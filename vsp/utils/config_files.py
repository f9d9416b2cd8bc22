"""Files of the working folder come first, then those shipped with vsp.

`vsp/shipped/` mirrors a working folder: `configs/`, `jobs/slurm.yaml` and the small model of the
project are package data there, so that an installed vsp needs no checkout.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

SHIPPED = Path(__file__).parents[1] / "shipped"
_log = logging.getLogger(__name__)


def find_config(
    name: str, folder: str, work: Path, ending: str = ".yaml", *, log: bool = True
) -> Path | None:
    """The file that `name` means; None if there is no such file.

    A name with the suffix .yaml or .yml is a path. Any other name means the file `name` + `ending`
    in `folder`. Both are looked up below `work`, then among the files shipped with vsp. The file may be
    unreadable. With `log`, the log says which file is used.
    """
    is_path = name.endswith((".yaml", ".yml"))
    relative = name if is_path else f"{folder}/{name}{ending}"
    for base in (work, SHIPPED):
        path = base / relative
        if _is_there(path):
            if log:
                _log.info("using %s", f"{relative}, shipped with vsp" if base == SHIPPED else path)
            return path
    return work / name if is_path else None


def _is_there(path: Path) -> bool:
    """Whether there is something at `path`, also a folder or a file that cannot be read.

    Reading it then says what is wrong; a file shipped with vsp would hide that.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        pass
    return True


def find_folder(name: str, work: Path) -> Path | None:
    """The absolute path of a folder below `work` or, if there is none, of a checkpoint shipped with vsp.

    None if there is neither.
    """
    if os.path.exists(work / name):  # noqa: PTH110 - False for a name that is too long
        return (work / name).absolute()
    if name and os.path.isfile(SHIPPED / name / "config.json"):  # noqa: PTH113 - as above
        return (SHIPPED / name).absolute()
    return None


def config_names(folder: str, work: Path, ending: str = ".yaml") -> list[str]:
    """Names that `find_config` finds in `folder`, sorted."""
    files = [path for base in (work, SHIPPED) for path in (base / folder).glob(f"*{ending}")]
    return sorted({path.name.removesuffix(ending) for path in files})
