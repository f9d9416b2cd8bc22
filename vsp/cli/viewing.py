"""`vsp view`: the results of a project folder in a browser."""

from __future__ import annotations

import argparse
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsp.cli.arguments import add_command, add_profile, read_profile
from vsp.cli.output import print_aside, print_line, print_notes
from vsp.errors import ConfigError

if TYPE_CHECKING:
    from vsp.serving.http_server import ResultsServer

PORT = 8765  # needs no privileges


def add_commands(subparsers: Any) -> None:
    parser = add_command(
        subparsers,
        "view",
        _view,
        "show the results of a project folder in a browser on this machine",
        example="vsp view\nvsp view /shared/project --port 0",
        guide="docs/page.md",
        interrupted="nothing was changed",
    )
    parser.add_argument(
        "folder",
        nargs="?",
        type=Path,
        default=Path(),
        metavar="FOLDER",
        help="project folder, which has results/ and scratch/ (default: this folder)",
    )
    parser.add_argument(
        "--port",
        type=_port,
        default=PORT,
        metavar="N",
        help=f"port on 127.0.0.1; 0 takes a free one (default: {PORT})",
    )
    add_profile(parser)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 1 << 16):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port; use a number from 0 to 65535")
    return int(text)


def _view(arguments: argparse.Namespace) -> None:
    folder: Path = arguments.folder
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "no such folder"
        raise ConfigError(f"{folder.absolute()}: {what}; name the folder that has results/")
    with _server(folder, arguments.port, arguments.profile) as server:
        _print_where(folder, server.server_port)
        with suppress(KeyboardInterrupt):  # the normal way to end the server
            server.serve_forever()
    print_aside("ended")


def _server(folder: Path, port: int, profile: Path | None) -> ResultsServer:
    """The server, with the batch system of the profile, which tells the jobs of runs."""
    from vsp.cluster.jobs import scheduler_of
    from vsp.serving.http_server import ResultsServer
    from vsp.serving.pages import Pages

    scheduler = scheduler_of(read_profile(profile, log=False, work=folder))
    try:
        return ResultsServer(port, Pages(folder, scheduler).answer)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise ConfigError(
            f"port {port}: {why}; use --port 0, which takes a free one, or another number"
        ) from None


def _print_where(folder: Path, port: int) -> None:
    from getpass import getuser
    from socket import gethostname

    print_line(f"{folder.absolute()}: http://localhost:{port}/")
    with suppress(OSError, KeyError):  # a user without a name
        print_line(
            f"from another computer: ssh -N -L {port}:127.0.0.1:{port} {getuser()}@{gethostname()}"
        )
    print_notes(["everybody who is logged in on this machine can read it; Ctrl-C ends it"])
