"""Lines that commands print."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any


def print_line(line: str) -> None:
    """Print and flush: a stage that runs in a child process prints to the same place."""
    print(line, flush=True)


def print_notes(notes: Sequence[str]) -> None:
    for note in notes:
        print(f"note: {note}", file=sys.stderr)


def print_json(value: Any) -> None:
    print(json.dumps(value))
