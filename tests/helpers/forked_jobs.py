"""Jobs of the local scheduler as forks of one process that has imported what they need.

A job of `scheduler: local` is a bash script that starts `python -m vsp`, and each new interpreter
would import the same libraries again. Here the scripts start a small program in its place. It sends
its arguments, folder, environment and streams to a process, which forks and runs the command.
Tests of signals, imports and installation start real interpreters instead.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

_PYTHON = ["-P", "-m", "vsp"]  # how jobs start vsp
_MODULES = ("vsp.cli.main", "vsp.evaluation.probe_run", "vsp.extraction.extract")
_CLIENT = """\
#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    socket.send_fds(server, [b"\\0"], [0, 1, 2])
    given = {{"words": sys.argv[1:], "folder": os.getcwd(), "environment": dict(os.environ)}}
    server.sendall(json.dumps(given).encode() + b"\\n")
    sys.exit(int(server.makefile().readline()))
"""


@contextmanager
def forked_jobs() -> Iterator[None]:
    """Within the block, jobs of commands that run in this process are forks of one process."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        client, address = Path(folder) / "python", f"{folder}/socket"
        client.write_text(_CLIENT.format(python=sys.executable, address=address))
        client.chmod(0o755)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(address)
            listener.listen()
            command = [sys.executable, __file__, str(listener.fileno())]
            server = subprocess.Popen(command, pass_fds=[listener.fileno()])
        patch.setattr("vsp.cluster.jobs.sys", SimpleNamespace(executable=str(client)))
        try:
            yield
        finally:
            server.kill()
            server.wait()


def _serve(listener: socket.socket) -> None:
    for name in _MODULES:
        __import__(name)
    while True:
        client, _ = listener.accept()
        with client:
            _, streams, _, _ = socket.recv_fds(client, 1, 3)
            given = json.loads(client.makefile().readline())
            child = os.fork()
            if not child:
                _run(streams, **given)
            for stream in streams:
                os.close(stream)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            client.sendall(b"%d\n" % code)


def _run(streams: list[int], words: list[str], folder: str, environment: dict[str, str]) -> None:
    """Run a command as `python -m vsp` does, and end this process."""
    code: object = 70
    try:
        from vsp.cli.main import console

        assert words[: len(_PYTHON)] == _PYTHON, words
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = ["vsp", *words[len(_PYTHON) :]]
        code = console()
    except SystemExit as ended:
        code = ended.code
    except BaseException:  # noqa: BLE001 - as the interpreter prints it
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
