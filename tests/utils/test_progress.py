import re
import sys

from helpers.terminals import run_in_terminal

from vsp.utils import progress as module
from vsp.utils.progress import progress


def test_a_log_gets_a_line_now_and_then_and_one_at_the_end(monkeypatch, capsys):
    monkeypatch.setattr(module, "_EVERY", -1)
    with progress("read", "rows", 4) as advance:
        advance(1)
        advance(3)
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" in ")[0] for line in lines] == [
        "read: 1/4 rows", "read: 4/4 rows", "read: 4/4 rows",
    ]  # fmt: skip
    assert "rows/s" in lines[0] and "left" in lines[0] and "left" not in lines[2]


def test_work_without_a_known_end_has_a_rate_and_no_time_left(monkeypatch, capsys):
    monkeypatch.setattr(module, "_EVERY", -1)
    with progress("read", "rows", None) as advance:
        advance(3)
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" in ")[0] for line in lines] == ["read: 3 rows", "read: 3 rows"]
    assert "rows/s" in lines[0] and "left" not in lines[0]


def test_a_terminal_gets_a_bar_with_rate():
    code = (
        "from vsp.utils.progress import progress\n"
        "with progress('read', 'rows', 30) as advance:\n"
        "    for _ in range(30):\n"
        "        advance(1)\n"
    )
    status, text = run_in_terminal([sys.executable, "-c", code], 100)
    assert status == 0
    assert "30/30" in text and "rows/s" in text and "read" in text


def test_a_bar_stays_on_one_line_of_a_narrow_terminal():
    code = (
        "import time\n"
        "from vsp.utils.progress import progress\n"
        "with progress('extract llava15-spatial', 'images', 1000) as advance:\n"
        "    for _ in range(10):\n"
        "        time.sleep(0.03)\n"
        "        advance(100)\n"
    )
    for columns in (48, 60):
        status, text = run_in_terminal([sys.executable, "-c", code], columns)
        drawn = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text.replace("\r", "\n"))
        last = drawn.rstrip().splitlines()[-1]
        assert status == 0 and "1000/1000" in last
        assert len(last) <= columns and "images/s" in last
