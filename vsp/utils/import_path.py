"""Keeps Python from importing modules of the working folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_OWN = str(Path(__file__).absolute().parents[2])  # the folder that holds vsp


def leave_out_working_folder() -> None:
    """Import nothing from the working folder from now on, here and in processes started from here.

    Python looks there first after `python -m` and `python -c`, with which worker processes start, and
    for an empty or relative element of PYTHONPATH. A json.py there would replace the module json. A
    folder stays on the path if it holds this vsp or if PYTHONPATH names its full path.
    """
    os.environ["PYTHONSAFEPATH"] = "1"  # Python reads it when it starts
    try:
        here = str(Path.cwd())
    except FileNotFoundError:
        return  # the folder was deleted: nothing can be imported from it
    left_out = [] if sys.flags.safe_path or sys.path[0] != here else [here]
    value = os.environ.get("PYTHONPATH", "")
    kept = []
    for folder in value.split(os.pathsep) if value else ():
        full = os.path.normpath(f"{here}/{folder}")
        if Path(folder).is_absolute():
            kept.append(folder)
        elif full == _OWN:
            kept.append(full)
        else:
            left_out.append(full)
    os.environ["PYTHONPATH"] = os.pathsep.join(kept)
    for folder in left_out:
        if folder in sys.path and folder != _OWN:
            sys.path.remove(folder)
