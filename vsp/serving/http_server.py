"""The HTTP server: answers GET and HEAD on 127.0.0.1, under the names localhost and 127.0.0.1."""

from __future__ import annotations

import socketserver
import sys
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HOST = "127.0.0.1"
NAMES = (HOST, "localhost")
_SECONDS = 30  # for a request to arrive
_READ_ONLY = "GET, HEAD"
# For every answer: it is not read as another type, by another page, or inside a frame, and not kept.
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_NOTHING_ALLOWED = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a browser gets."""

    status: HTTPStatus
    body: bytes
    content_type: str = "text/html; charset=utf-8"
    policy: str = _NOTHING_ALLOWED  # content-security policy


def text_answer(status: HTTPStatus, line: str) -> Answer:
    """A line of text; no browser reads it as markup."""
    return Answer(status, f"{line}\n".encode(), "text/plain; charset=utf-8")


class ResultsServer(ThreadingHTTPServer):
    """Listens on 127.0.0.1. `answer` takes the path of a request; it is called in a thread each."""

    daemon_threads = True  # Ctrl-C does not wait for a page that is being made

    def __init__(self, port: int, answer: Callable[[str], Answer]) -> None:
        """Raises OSError if the port cannot be listened on; port 0 is any free one."""
        self.answer = answer
        super().__init__((HOST, port), _Handler)

    def server_bind(self) -> None:
        # HTTPServer would look up the name of the host here, which may take seconds.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a connection that the browser closed; show the traceback of any other error."""
        if not isinstance(sys.exception(), (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """One request and its answer; the connection is closed then."""

    server: ResultsServer
    timeout = _SECONDS
    server_version, sys_version = "vsp", ""

    def do_GET(self) -> None:
        self._send(self._answer())

    def do_HEAD(self) -> None:
        self._send(self._answer(), with_body=False)

    def _answer(self) -> Answer:
        hosts = self.headers.get_all("Host") or []
        port = self.server.server_port
        # A page of another site can let its own name lead to 127.0.0.1, but not change this line.
        if hosts not in [[f"{name}:{port}"] for name in NAMES]:
            return text_answer(
                HTTPStatus.MISDIRECTED_REQUEST,
                f"This server answers at http://localhost:{port}/ only. Through a tunnel, use the same "
                f"port on both sides: ssh -L {port}:{HOST}:{port} HOST",
            )
        if self.path == "/favicon.ico":  # browsers ask for it; the pages have none
            return Answer(HTTPStatus.NO_CONTENT, b"")
        return self.server.answer(self.path)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer a malformed request, without repeating its text."""
        status = HTTPStatus(code)
        if status == HTTPStatus.NOT_IMPLEMENTED:  # any method but GET and HEAD
            status = HTTPStatus.METHOD_NOT_ALLOWED
        self.close_connection = True
        is_head = getattr(self, "command", None) == "HEAD"
        self._send(text_answer(status, status.description or status.phrase), with_body=not is_head)

    def _send(self, answer: Answer, with_body: bool = True) -> None:
        self.request_version = "HTTP/1.0"  # an older one, or none, would get no headers
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Content-Security-Policy", answer.policy)
        if answer.status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", _READ_ONLY)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(answer.body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Do not print requests."""
