"""Serve a project folder in a thread, and ask it as a browser or an attacker would."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

from vsp.serving.http_server import ResultsServer
from vsp.serving.pages import Pages


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]  # by name in lower case
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


class Served:
    """A running server."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://localhost:{port}"

    def get(self, path: str, method: str = "GET", host: str | None = None) -> Reply:
        """The reply to one request, whose path is sent as it is."""
        host = f"localhost:{self.port}" if host is None else host
        return self.send(f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode("latin-1"))

    def send(self, sent: bytes) -> Reply:
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
            connection.sendall(sent)
            parts = []
            while part := connection.recv(1 << 16):
                parts.append(part)
        head, _, body = b"".join(parts).partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        lower = {name.lower(): value for name, value in headers.items()}
        assert len(lower) == len(lines), "a header is sent twice"
        return Reply(int(first.split()[1]), lower, body)


@contextmanager
def serving(folder: Path) -> Iterator[Served]:
    """Serve the folder on a free port."""
    with ResultsServer(0, Pages(folder).answer) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield Served(server.server_port)
        finally:
            server.shutdown()
            thread.join()
