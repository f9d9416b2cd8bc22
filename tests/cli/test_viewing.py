"""`vsp view` as a command: where it listens, what it prints, and how it ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from urllib.request import urlopen

from helpers import made
from helpers.paths import ROOT


@contextmanager
def _viewing(folder, *words):
    """A `vsp view` that runs, and the two lines that it printed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "vsp", "view", *map(str, words)], cwd=folder, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        yield process, [process.stdout.readline(), process.stdout.readline()]
    finally:
        process.kill()
        process.communicate()


def test_it_prints_the_address_and_the_tunnel_serves_and_ends_with_ctrl_c(work):
    made.made(work / "results" / "small")
    with _viewing(work, "--port", 0) as (process, (where, tunnel)):
        port = re.search(r"http://localhost:(\d+)/$", where.strip())[1]
        assert str(work) in where
        assert f"ssh -N -L {port}:127.0.0.1:{port} " in tunnel
        # Browsers that connect and send nothing, or not all, keep neither others nor the end waiting.
        with (
            socket.create_connection(("127.0.0.1", int(port))),
            socket.create_connection(("127.0.0.1", int(port))) as slow,
        ):
            slow.sendall(b"GET / HTTP/1.1\r\nHo")
            with urlopen(f"http://127.0.0.1:{port}/") as page:
                assert "/run/small" in page.read().decode()
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=20)
    assert process.returncode == 0
    assert said.splitlines()[-1] == "ended" and "Traceback" not in said


def test_a_port_that_is_taken_is_one_line_with_what_to_do(vsp, work):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        answer = vsp("view", "--port", port)
    assert answer.returncode == 1 and answer.stdout == ""
    (line,) = answer.stderr.splitlines()
    assert line.startswith(f"vsp: port {port}: address already in use; use --port 0")


def test_a_wrong_folder_or_port_is_refused_in_one_line(vsp, work):
    answer = vsp("view", "nowhere")
    assert answer.returncode == 1 and answer.stderr == (
        f"vsp: {work}/nowhere: no such folder; name the folder that has results/\n"
    )
    for port in ("-1", "65536", "x", "٣"):
        answer = vsp("view", f"--port={port}")
        assert answer.returncode == 2 and "from 0 to 65535" in answer.stderr
