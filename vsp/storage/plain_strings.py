"""Reads the strings of a pickled numpy array of objects, without unpickling it.

numpy writes an array with dtype object as a pickle, which can run any code when it is loaded. Nothing
is loaded here: `pickletools` lists the operations, and a small interpreter follows those that numpy
writes for a one-dimensional array of plain strings. It imports nothing, calls nothing, and refuses
every other operation.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from typing import Any

_GLOBALS = {
    f"{module} {name}": name
    for module in ("numpy", "numpy.core.multiarray", "numpy._core.multiarray")
    for name in ("_reconstruct", "ndarray", "dtype")
}
_TEXTS = ("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE")
_NUMBERS = ("BININT", "BININT1", "BININT2", "LONG1")
_BYTES = ("SHORT_BINBYTES", "BINBYTES")  # b"b", an argument of _reconstruct
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_PUT, _GET = ("BINPUT", "LONG_BINPUT"), ("BINGET", "LONG_BINGET")
_IGNORED = ("PROTO", "FRAME")
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class NotPlainError(Exception):
    """The pickle holds something else than a one-dimensional array of plain strings."""


class _Mark:
    """A place on the stack."""


class _Name(str):
    """A global name; never imported."""


class _Made(dict[str, Any]):
    """A call that is recorded and not made: its name, its arguments and the state that it sets."""


def read_plain_strings(pickled: bytes) -> list[str]:
    """The strings of a pickled array of objects `[row]`.

    Raises NotPlainError for any other pickle. Nothing of it is executed.
    """
    reader = _Reader()
    try:
        for operation, argument, _ in pickletools.genops(pickled):
            reader.step(operation.name, argument)
        return reader.strings()
    except (ValueError, IndexError, KeyError, TypeError, RecursionError):
        raise NotPlainError("its pickle is damaged, or not of an array of strings") from None


class _Reader:
    """Follows the operations of a pickle on a stack of plain values."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._result: Any = None

    def step(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in _TEXTS or name in _NUMBERS or name in _BYTES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _PUT:
            self._memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = stack[-1]
        elif name in _GET:
            stack.append(self._memo[argument])
        elif name in _TUPLES:
            items = tuple(stack[-_TUPLES[name] :])
            del stack[-_TUPLES[name] :]
            stack.append(items)
        elif name not in _IGNORED:
            self._other(name, argument)

    def _other(self, name: str, argument: Any) -> None:
        known: Mapping[str, Callable[[], None]] = {
            "MARK": lambda: self._stack.append(_Mark()),
            "EMPTY_TUPLE": lambda: self._stack.append(()),
            "EMPTY_LIST": lambda: self._stack.append([]),
            "TUPLE": lambda: self._stack.append(tuple(self._above_mark())),
            "APPENDS": self._extend,
            "APPEND": self._append,
            "GLOBAL": lambda: self._stack.append(_named(str(argument))),
            "STACK_GLOBAL": self._stack_global,
            "REDUCE": self._call,
            "BUILD": self._build,
            "STOP": self._stop,
        }
        if name not in known:
            raise NotPlainError(f"its pickle has the operation {name}, which no string needs")
        known[name]()

    def strings(self) -> list[str]:
        made = self._result
        state = made.get("state") if isinstance(made, _Made) else None
        if not isinstance(state, tuple) or len(state) != 5 or made["name"] != "_reconstruct":
            raise NotPlainError("its pickle is not of an array")
        _, shape, dtype, fortran, values = state
        if (
            not isinstance(dtype, _Made)
            or dtype["name"] != "dtype"
            or dtype["arguments"][0] != "O8"
        ):
            raise NotPlainError("its pickle is not of an array of objects")
        if not isinstance(values, list) or shape != (len(values),) or fortran is not False:
            raise NotPlainError("its pickle is not of an array with one axis")
        for value in values:
            if type(value) is not str:
                raise NotPlainError(
                    f"it holds a {type(value).__name__.lstrip('_')}, not only strings"
                )
        return values

    def _above_mark(self) -> list[Any]:
        items: list[Any] = []
        while not isinstance(item := self._stack.pop(), _Mark):
            items.append(item)
        return items[::-1]

    def _extend(self) -> None:
        items = self._above_mark()
        self._target().extend(items)

    def _append(self) -> None:
        item = self._stack.pop()
        self._target().append(item)

    def _target(self) -> list[Any]:
        if not isinstance(self._stack[-1], list):
            raise NotPlainError("its pickle appends to something else than a list")
        return self._stack[-1]

    def _stack_global(self) -> None:
        module, name = self._stack[-2:]
        del self._stack[-2:]
        self._stack.append(_named(f"{module} {name}"))

    def _call(self) -> None:
        called, arguments = self._stack[-2:]
        del self._stack[-2:]
        if not isinstance(called, _Name) or called == "ndarray" or not isinstance(arguments, tuple):
            raise NotPlainError("its pickle makes a call, which no string needs")
        self._stack.append(_Made(name=str(called), arguments=arguments))

    def _build(self) -> None:
        state = self._stack.pop()
        made = self._stack[-1]
        if not isinstance(made, _Made) or "state" in made:
            raise NotPlainError("its pickle sets the state of something else than an array")
        made["state"] = state

    def _stop(self) -> None:
        self._result = self._stack.pop()


def _named(name: str) -> _Name:
    if name not in _GLOBALS:
        raise NotPlainError(f"its pickle names {name[:80].replace(' ', '.')!a}")
    return _Name(_GLOBALS[name])
