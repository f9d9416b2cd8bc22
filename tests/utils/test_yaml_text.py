"""YAML of strangers: plain values, one line for what is wrong, bounded time and memory."""

from __future__ import annotations

import time

import pytest

from vsp.utils.reading import MAX_YAML
from vsp.utils.yaml_text import parse_yaml


def test_clocks_and_dates_are_text():
    text = "time: 12:00:00\nday: 2026-01-31\nn: 3\nx: 1.5\nnone:\n"
    assert parse_yaml(text) == {
        "time": "12:00:00", "day": "2026-01-31", "n": 3, "x": 1.5, "none": None,
    }  # fmt: skip
    assert parse_yaml("") is None


def test_a_few_aliases_are_copies():
    assert parse_yaml("a: &x {p: 1}\nb: *x\nc: {<<: *x, p: 2}") == {
        "a": {"p": 1}, "b": {"p": 1}, "c": {"p": 2},
    }  # fmt: skip


def _bomb(open_, close, mark="", n=40):
    lines = [f"a0: &a0 {open_}{mark}x{close}"]
    lines += [f"a{i}: &a{i} {open_}{mark}*a{i - 1}, *a{i - 1}{close}" for i in range(1, n)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (_bomb("[", "]"), "stands for more than 100,000 values"),
        (
            "a0: &a0 {k0: 1}\n"
            + "\n".join(f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}" for i in range(1, 40)),
            "stands for more than 100,000 values",
        ),
        ("a: &a [*a]", "line 1: a value contains itself"),
        ("a: &a\n  b: *a", "contains itself"),
        ("a: 1\nb: 2\na: 3", "line 3: repeats the key 'a'; keep one"),
        ("[" * 20000, "recursion"),
        ("? " * 30000, "recursion"),
        ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("? [1]\n: 2", "unhashable"),
        ("a: 1e5e", None),
        ("a: !!int x", "invalid literal"),
        ("a: \x00", "special characters"),
        ("--- 1\n--- 2", "expected a single document"),
        ("- " * 30000 + "x", "recursion"),
    ],
)
def test_what_is_no_yaml_or_too_much_is_one_line_within_seconds(text, said):
    started = time.process_time()
    if said is None:
        assert parse_yaml(text) == {"a": "1e5e"}
    else:
        with pytest.raises(ValueError) as caught:
            parse_yaml(text)
        assert said in str(caught.value) and "\n" not in str(caught.value)
    assert time.process_time() - started < 5


@pytest.mark.parametrize("pattern", ["[],", "k{}: {}\n", "- &a{} x\n"])
def test_the_largest_file_is_read_within_seconds(pattern):
    n = MAX_YAML // (len(pattern) + 4)
    text = "".join(pattern.format(i, i) for i in range(n))[:MAX_YAML]
    text = f"[{text.rstrip(',')}]" if pattern == "[]," else text.rsplit("\n", 1)[0]
    started = time.process_time()
    assert len(parse_yaml(text)) > 10_000
    assert time.process_time() - started < 10
