"""Prints the log messages of the package on stderr, one line each."""

from __future__ import annotations

import logging
import sys

_KINDS = {logging.INFO: "note", logging.WARNING: "warning"}


class _Printer(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        kind = _KINDS.get(record.levelno, record.levelname.lower())
        print(f"{kind}: {record.getMessage()}", file=sys.stderr, flush=True)


def print_log_messages() -> None:
    """Print what the package logs as `note: …` and `warning: …`; harmless if called twice."""
    logger = logging.getLogger("vsp")
    logger.setLevel(logging.INFO)
    if not any(isinstance(handler, _Printer) for handler in logger.handlers):
        logger.addHandler(_Printer())
