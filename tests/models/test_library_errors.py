"""Errors of libraries are one line; those of vsp's own code, and Ctrl-C, pass as they are."""

from __future__ import annotations

import os
import signal

import pytest

from vsp.errors import InputError, ModelError
from vsp.models.library_errors import hidden_panics, library_errors, short
from vsp.utils.signals import Stopped

PanicException = type("PanicException", (BaseException,), {"__module__": "pyo3_runtime"})


def _described():
    return library_errors(lambda error: ModelError(f"a.json cannot be read ({short(error)})"))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("no\nnumber"), "no number"),
        (KeyError("size"), "KeyError: 'size'"),
        (RecursionError("too deep"), "RecursionError: too deep"),
        (OverflowError("too large"), "OverflowError: too large"),
        (MemoryError(), "MemoryError"),
        (ZeroDivisionError("division"), "ZeroDivisionError: division"),
        (Exception("of a tokenizer"), "Exception: of a tokenizer"),
        (PanicException("index out of bounds"), "PanicException: index out of bounds"),
    ],
)
def test_any_error_of_a_library_is_one_line_with_its_cause(error, said):
    with pytest.raises(ModelError) as caught, _described():
        raise error
    assert str(caught.value) == f"a.json cannot be read ({said})"
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), SystemExit(1), Stopped(signal.SIGTERM), InputError("x")]
)
def test_an_interrupt_and_errors_that_are_one_line_already_pass(error):
    with pytest.raises(type(error)) as caught, _described():
        raise error
    assert caught.value is error


def test_what_a_panic_prints_is_hidden_and_a_warning_is_not(capfd):
    with hidden_panics():
        os.write(2, b"a warning\n")
    with pytest.raises(PanicException), hidden_panics():
        os.write(2, b"thread panicked\n")
        raise PanicException("x")
    os.write(2, b"later\n")
    assert capfd.readouterr().err == "a warning\nlater\n"
