"""Keeps Python from importing modules of the working folder.

This module imports only what Python has loaded when it starts. Any other import, also that of
`__future__`, could already come from the working folder. Therefore it does without pathlib.
"""

import os
import sys

_OWN = os.path.abspath(f"{__file__}/../../..")  # noqa: PTH100 - the folder that holds vsp


def leave_out_working_folder() -> None:
    """Import nothing from the working folder from now on, here and in processes started from here.

    Python looks there first after `python -m` and `python -c`, with which worker processes start, and
    for an empty or relative element of PYTHONPATH. A json.py there would replace the module json. A
    folder stays on the path if it holds this vsp or if PYTHONPATH names its full path.
    """
    os.environ["PYTHONSAFEPATH"] = "1"  # Python reads it when it starts
    try:
        here = os.getcwd()  # noqa: PTH109
    except FileNotFoundError:
        return  # the folder was deleted: nothing can be imported from it
    left_out = [] if sys.flags.safe_path or sys.path[0] != here else [here]
    value = os.environ.get("PYTHONPATH", "")
    kept = []
    for folder in value.split(os.pathsep) if value else ():
        full = os.path.normpath(f"{here}/{folder}")
        if folder.startswith("/"):
            kept.append(folder)
        elif full == _OWN:
            kept.append(full)
        else:
            left_out.append(full)
    os.environ["PYTHONPATH"] = os.pathsep.join(kept)
    for folder in left_out:
        if folder in sys.path and folder != _OWN:
            sys.path.remove(folder)


def folder_of_vsp() -> str:
    """The folder that `python -P` needs in PYTHONPATH to import this very vsp.

    Empty if this vsp lies where this interpreter installs packages. From a checkout, Python would
    find no vsp, or the one that is installed.
    """
    import site  # loaded when Python starts

    installed = [*site.getsitepackages(), site.USER_SITE if site.ENABLE_USER_SITE else None]
    places = {os.path.realpath(folder) for folder in installed if folder}
    return "" if os.path.realpath(_OWN) in places else _OWN
