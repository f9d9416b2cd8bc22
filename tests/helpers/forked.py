"""Run Python code in forked processes of one that has imported what the code needs.

Libraries read some variables of the environment when they are imported. A process for each value
of them takes seconds; one that is forked from it takes milliseconds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from subprocess import CompletedProcess

_ROOT = Path(__file__).parents[2]


class Forked:
    """A process with variables of its own and these modules, from which others are forked."""

    def __init__(self, modules: Sequence[str], environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, *modules], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, env={**os.environ, "PYTHONPATH": str(_ROOT), **environment},
        )  # fmt: skip

    def run(self, code: str, folder: Path) -> CompletedProcess[str]:
        """The exit code and the output of a process that runs `code` in `folder`."""
        assert self._process.stdin is not None and self._process.stdout is not None
        print(json.dumps([code, str(folder)]), file=self._process.stdin, flush=True)
        return CompletedProcess(code, *json.loads(self._process.stdout.readline()))

    def vsp(self, folder: Path, *arguments: object) -> CompletedProcess[str]:
        """A process that runs a vsp command in `folder`."""
        words = list(map(str, arguments))
        return self.run(f"from vsp.cli.main import main\nraise SystemExit(main({words!r}))", folder)

    def close(self) -> None:
        self._process.communicate()


def _serve(modules: Sequence[str]) -> None:
    for name in modules:
        __import__(name)
    for line in sys.stdin:
        print(json.dumps(_ran(*json.loads(line))), flush=True)


def _ran(code: str, folder: str) -> tuple[int, str, str]:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if not child:
            os.chdir(folder)
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            _run(code)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode())
    return status, texts[0], texts[1]


def _run(code: str) -> None:
    """Run the code in this process, and end the process."""
    status = 1
    try:
        exec(code, {"__name__": "__main__"})
        status = 0
    except SystemExit as ended:
        status = int(ended.code or 0)
    except BaseException:  # noqa: BLE001 - as the interpreter prints it
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    sys.path.remove(str(Path(__file__).parent))  # where tests' modules have common names
    _serve(sys.argv[1:])
