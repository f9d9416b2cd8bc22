"""The boundary to the libraries that parse a checkpoint's files.

transformers, tokenizers, safetensors and PEFT read files of strangers with any error that Python or Rust has:
RecursionError for a nested file, OverflowError for a large number, a bare Exception of a tokenizer,
a panic. All of them mean that the file cannot be used. A block under `library_errors` holds calls of
libraries only, so that an error of vsp's own code keeps its traceback.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vsp.errors import ModelError, VspError
from vsp.utils.streams import pass_on

_LONGEST = 200  # characters of a library's message


@contextmanager
def library_errors(describe: Callable[[BaseException], ModelError]) -> Iterator[None]:
    """Turn any error of a library into the one that `describe` makes of it.

    The library's error stays its cause. Ctrl-C, exits and signals pass.
    """
    try:
        yield
    except VspError:
        raise
    except BaseException as error:  # PanicException is a BaseException
        if not (isinstance(error, Exception) or is_panic(error)):
            raise
        raise describe(error) from error


def is_panic(error: BaseException) -> bool:
    """Whether an error is a panic of a library in Rust, whose class cannot be imported."""
    return type(error).__name__ == "PanicException"


def short(error: BaseException) -> str:
    """The message of an error, in one line; with its type where that alone says what is wrong."""
    text = " ".join(str(error).split())[:_LONGEST]
    if isinstance(error, (OSError, ValueError)) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@contextmanager
def hidden_panics() -> Iterator[None]:
    """Keep what a panic prints off the terminal. Anything else on stderr is printed afterwards."""
    sys.stderr.flush()
    before = os.dup(2)
    panicked = False
    with tempfile.TemporaryFile() as aside:
        os.dup2(aside.fileno(), 2)
        try:
            yield
        except BaseException as error:
            panicked = is_panic(error)
            raise
        finally:
            sys.stderr.flush()
            os.dup2(before, 2)
            os.close(before)
            aside.seek(0)
            if not panicked:
                pass_on(aside.read())
