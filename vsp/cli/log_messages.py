"""Prints the log messages of the package on stderr, one line each."""

from __future__ import annotations

import logging

from vsp.cli.output import print_aside

_KINDS = {logging.INFO: "note", logging.WARNING: "warning"}


class _Printer(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        kind = _KINDS.get(record.levelno, record.levelname.lower())
        print_aside(f"{kind}: {record.getMessage()}")


def print_log_messages() -> None:
    """Print what the package logs as `note: …` and `warning: …`; harmless if called twice."""
    logger = logging.getLogger("vsp")
    logger.setLevel(logging.INFO)
    if not any(isinstance(handler, _Printer) for handler in logger.handlers):
        logger.addHandler(_Printer())
