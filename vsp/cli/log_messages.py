"""Prints the log messages of the package on stderr, one line each."""

from __future__ import annotations

import logging

from vsp.cli.output import print_aside
from vsp.utils.quiet import is_quiet

_KINDS = {logging.INFO: "note", logging.WARNING: "warning"}


class _Printer(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        kind = _KINDS.get(record.levelno, record.levelname.lower())
        print_aside(f"{kind}: {record.getMessage()}")


def print_log_messages() -> None:
    """Print what the package logs as `note: …` and `warning: …`; harmless if called twice.

    --quiet leaves the notes out.
    """
    logger = logging.getLogger("vsp")
    logger.setLevel(logging.WARNING if is_quiet() else logging.INFO)
    if not any(isinstance(handler, _Printer) for handler in logger.handlers):
        logger.addHandler(_Printer())
