"""Run vsp commands, or Python code, in forked processes and measure time and memory of each.

They start from one process that has imported what they need, so that each takes milliseconds. It
is a process of its own because a test process may have threads, and because libraries read some
variables of the environment when they are imported.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SECONDS = 10  # of CPU time
PATIENCE = 60  # seconds until a command that waits is killed
MEGABYTES = 2000


@dataclass(frozen=True)
class Ended:
    """How a command ended; `code` is -9 if it was killed after PATIENCE."""

    code: int
    seconds: float  # of CPU time, of the command and its processes
    megabytes: float  # largest memory in use
    out: str
    err: str

    def assert_answer_or_one_line(self) -> None:
        """An answer, or an error of one line, in bounded time and memory."""
        assert self.seconds < SECONDS and self.megabytes < MEGABYTES, self
        assert self.code in (0, 1), self
        assert "Traceback" not in self.err, self.err
        if self.code == 1:
            assert self.err.splitlines()[-1].startswith("vsp: "), self


class Runner:
    """A process that runs commands, one after the other, in `folder` unless another is given."""

    def __init__(
        self,
        folder: Path,
        modules: Sequence[str] = (),
        python: str | Path = sys.executable,
        environment: dict[str, str] | None = None,
    ) -> None:
        self._process = subprocess.Popen(
            [python, __file__, *modules], env=environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder,
        )  # fmt: skip

    def run(self, *argv: object, folder: Path | None = None) -> Ended:
        """Run a vsp command."""
        words = list(map(str, argv))
        code = f"from vsp.cli.main import main\nraise SystemExit(main({words!r}))"
        return self.run_code(code, folder)

    def run_code(self, code: str, folder: Path | None = None) -> Ended:
        """Run Python code."""
        assert self._process.stdin is not None and self._process.stdout is not None
        asked = {"code": code, "folder": str(folder or "")}
        print(json.dumps(asked), file=self._process.stdin, flush=True)
        return Ended(**json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def _serve(modules: Sequence[str]) -> None:
    for name in ("vsp.cli.main", *modules):
        __import__(name)
    for line in sys.stdin:
        print(json.dumps(_run(**json.loads(line))), flush=True)


def _run(code: str, folder: str) -> dict[str, object]:
    started = time.monotonic()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if not child:
            _execute(code, folder, out.fileno(), err.fileno())
        while not (ended := os.wait4(child, os.WNOHANG))[0]:
            if time.monotonic() - started > PATIENCE:
                os.killpg(child, signal.SIGKILL)
                ended = os.wait4(child, 0)
                break
            time.sleep(0.002)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read(1 << 20).decode(errors="replace"))
    usage: resource.struct_rusage = ended[2]
    return {
        "code": os.waitstatus_to_exitcode(ended[1]), "seconds": usage.ru_utime + usage.ru_stime,
        "megabytes": usage.ru_maxrss / 1000, "out": texts[0], "err": texts[1],
    }  # fmt: skip


def _execute(code: str, folder: str, out: int, err: int) -> None:
    """Run the code in this process, and end the process."""
    os.setpgrp()
    os.chdir(folder or ".")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(out, 1)
    os.dup2(err, 2)
    # A mistake must not take the memory of the machine.
    resource.setrlimit(resource.RLIMIT_AS, (16 << 30, 16 << 30))
    status = 70
    try:
        exec(code, {"__name__": "__main__"})
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001 - as the interpreter prints it
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    sys.path.remove(str(Path(__file__).parent))  # where modules of the tests have common names
    _serve(sys.argv[1:])
