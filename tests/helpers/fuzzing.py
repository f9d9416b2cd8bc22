"""Damaged and odd files for fuzz tests: bytes, JSON values, and a file that is damaged for one call."""

from __future__ import annotations

import json
import re

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from vsp.errors import VspError

# Always the same examples, so that a failure can be repeated.
settings.register_profile(
    "fuzz",
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
fuzz = settings(settings.get_profile("fuzz"), max_examples=80)
few = settings(settings.get_profile("fuzz"), max_examples=60)

ODD = st.sampled_from(
    [None, True, 0, -1, 3.0, 10**400, -(2**63), float("nan"), float("inf"), "", "\n", "a\nb",
     "\0", "\ud800", "\u2028", "x" * 5000, "../..", "/", [], [[]], {}, {"a\nb": {}}]
)  # fmt: skip
VALUES = ODD | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda some: (
        st.lists(some, max_size=4) | st.dictionaries(st.text(max_size=8), some, max_size=4)
    ),
    max_leaves=8,
)
JSON = VALUES.map(lambda value: json.dumps(value).encode())
DEEP = b"[" * 200_000
DIGITS = b"9" * 10_000


def or_one_line(call):
    """The answer of a call, or None if it raises a one-line VspError."""
    try:
        return call()
    except VspError as error:
        for line in (str(error), *error.details):
            assert line and not re.search(r"[\n\r]", line)
        return None


@st.composite
def damaged(draw, whole):
    """The bytes of a file with some bytes changed, removed, inserted, or cut off."""
    body = bytearray(whole)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, max(0, len(body) - 1)))
        kind = draw(st.sampled_from(["flip", "cut", "put", "end", "twice"]))
        if kind == "flip" and body:
            body[place] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del body[place : place + draw(st.integers(1, 40))]
        elif kind == "put":
            body[place:place] = draw(st.binary(max_size=6) | st.sampled_from([b"\n", b"{", b"9"]))
        elif kind == "end":
            del body[place:]
        else:
            body[place:place] = body[place : place + draw(st.integers(1, 200))]
    return bytes(body)


@st.composite
def edited(draw, values):
    """A JSON or YAML value with one part changed, removed or added."""
    if isinstance(values, dict) and values and draw(st.booleans()):
        key = draw(st.sampled_from(sorted(values)))
        kind = draw(st.sampled_from(["inside", "inside", "other", "gone", "renamed"]))
        rest = {k: v for k, v in values.items() if k != key}
        if kind == "inside":
            return {**values, key: draw(edited(values[key]))}
        if kind == "other":
            return {**values, key: draw(VALUES)}
        return rest if kind == "gone" else {**rest, draw(st.text(max_size=5)): values[key]}
    if isinstance(values, dict) and values:
        return {**values, draw(st.text(max_size=5) | st.sampled_from(["a\nb"])): draw(VALUES)}
    if isinstance(values, list) and values and draw(st.booleans()):
        place = draw(st.integers(0, len(values) - 1))
        return [*values[:place], draw(edited(values[place])), *values[place + 1 :]]
    if isinstance(values, int | float) and draw(st.booleans()):
        return draw(st.sampled_from([values + 1, -values, str(values), float(values), 0, [values]]))
    if isinstance(values, str) and draw(st.booleans()):
        return draw(st.sampled_from([values + "\n", values[:-1], values.upper(), [values], ""]))
    return draw(VALUES)


class Place:
    """A context manager that damages a file and restores it afterwards."""

    def __init__(self, path):
        self.path, self.whole = path, path.read_bytes()

    def with_body(self, body, call):
        try:
            self.path.write_bytes(body)
            return or_one_line(call)
        finally:
            self.path.write_bytes(self.whole)
