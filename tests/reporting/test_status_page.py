import io

import pytest
from rich.console import Console

from vsp.cluster.status import RunStatus, ShardStatus
from vsp.reporting.status_page import status_page

SHARD = ShardStatus(
    123, 1_000_000, 1_123_456, 100_456, 1_000, 22_000, "not started", "", 1234.5, 7384.0, 1.0,
    "n17",
)  # fmt: skip
FIGURES = ["123", "123456", "100456", "1000", "22000"]


def _lines(width, *shards):
    status = RunStatus("fake", 123_456, shards, {}, None, (), 10.0)
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(status_page(status, True, ()))
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]
    assert max(map(len, lines)) <= width and not any("…" in line for line in lines)
    return lines


@pytest.mark.parametrize(
    ("width", "hidden"),
    [
        (60, "node, written, rows/s"),
        (69, "node, written"),
        (78, "node"),
        (83, "node"),
        (84, ""),
        (200, ""),
    ],
)
def test_a_narrow_terminal_omits_columns_and_cuts_no_number(width, hidden):
    lines = _lines(width, SHARD)
    (row,) = [line for line in lines if line.strip().startswith("123 ")]
    columns = {"rows/s": "1,234.5", "left": "2:03:04", "written": "9s", "node": "n17"}
    shown = [cell for name, cell in columns.items() if name not in hidden]
    assert row.split() == [*FIGURES, *shown, "not", "started"]
    said = f"no room for {hidden}; `vsp status --json` shows all"
    assert (said in " ".join(lines)) == (hidden != "") == ("no room" in " ".join(lines))
