import os
import sys
import time
from pathlib import Path

import pytest

from vsp.utils import limits
from vsp.utils.limits import FailedError, LimitError, run_limited


def test_the_value_of_a_function_comes_back_and_nothing_else_does(capfd):
    seen = []

    def work():
        seen.append(1)
        print("printed")
        os.write(2, b"printed too")
        return {"a": [1, "ä"]}

    assert run_limited(work) == {"a": [1, "ä"]}
    assert seen == [] and capfd.readouterr() == ("", "")


def _forever():
    while True:
        pass


@pytest.mark.parametrize(
    ("work", "reason"),
    [
        (lambda: "a" * 10**10, "takes over 1 GiB of memory"),
        (lambda: [0] * (limits.MEMORY // 4), "takes over 1 GiB of memory"),
        (lambda: "a" * 10**8, "gives a text of over 16 MiB"),
        (os.abort, "ends its process with SIGABRT"),
        (lambda: os._exit(3), "ends its process"),
        (sys.exit, "ends its process"),
    ],
)
def test_a_function_beyond_its_limits_is_ended_with_the_reason(work, reason):
    start = time.monotonic()
    with pytest.raises(LimitError, match=f"^{reason}$"):
        run_limited(work)
    assert time.monotonic() - start < 10


def test_a_function_without_an_end_is_ended(monkeypatch):
    assert limits.SECONDS == 5
    monkeypatch.setattr(limits, "SECONDS", 1)
    with pytest.raises(LimitError, match="takes over 1 s of CPU time"):
        run_limited(_forever)


def test_an_error_of_the_function_is_named_in_one_line():
    with pytest.raises(FailedError, match=r"^ZeroDivisionError: division by zero$"):
        run_limited(lambda: 1 / 0)


def _children():
    tasks = Path("/proc/self/task").glob("*/children")
    return {child for task in tasks for child in task.read_text().split()}


def test_no_process_is_left_behind():
    before = _children()
    for work in (lambda: 1, os.abort):
        try:
            run_limited(work)
        except LimitError:
            continue
    assert _children() == before
