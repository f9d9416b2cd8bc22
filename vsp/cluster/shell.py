"""Parts of batch scripts and of the commands that submit them, for bash."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path

from vsp.utils.files import write_aside

# Applied to the variables of the submitting shell and of modules, because
# `export PYTHONPATH=$PYTHONPATH:/site` leaves an empty folder where the variable was unset.
_ABSOLUTE_FOLDERS = """\
# An empty or relative folder in a search path is the folder that the job was sent from.
absolute_folders() {
  local name folder rest kept
  for name in PATH LD_LIBRARY_PATH PYTHONPATH; do
    rest="${!name-}" kept=""
    while [ -n "$rest" ]; do
      folder="${rest%%:*}"
      case "$rest" in *:*) rest="${rest#*:}" ;; *) rest="" ;; esac
      case "$folder" in /*) kept="$kept:$folder" ;; esac
    done
    if [ -n "$kept" ]; then export "$name=${kept#:}"; else unset "$name"; fi
  done
}
absolute_folders"""


def environment_lines(environment: Mapping[str, str], import_from: str = "") -> list[str]:
    """Lines that set the variables of a task and leave the working folder out of search paths.

    The task imports from the folder `import_from` first, before the folders of PYTHONPATH.
    """
    lines = [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
    if import_from:
        # Also before the folders that the shell or a module has put into PYTHONPATH.
        lines.append(f"export PYTHONPATH={shlex.quote(import_from)}:${{PYTHONPATH-}}")
    return [*lines, *_ABSOLUTE_FOLDERS.splitlines()]


def path_argument(path: Path) -> str:
    """The path as an argument that no program reads as an option."""
    return f"./{path}" if str(path).startswith("-") else str(path)


def write_script(path: Path, script: str) -> None:
    """Write a batch script; folder names in it keep their bytes, also those that are not UTF-8."""
    with write_aside(path, executable=True) as file:
        file.write(os.fsencode(script))
