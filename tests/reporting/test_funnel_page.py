import io

import pytest
from rich.console import Console

from vsp.reporting.funnel_page import funnel_page

LABELS = ["left_of", "right_of", "above", "[b]below", "inside", "around", "near"]
COUNTS = {label: 12_345 + i for i, label in enumerate(LABELS)}
FUNNEL = {
    "labels": [*LABELS, "unused"],
    "parts": {
        "train": {
            "rows": 123_456,
            "images": 4_000,
            "dropped": [
                {"why": "other-relation", "rows": 37_000, "labels": {}},
                {"why": "box-contradicts", "rows": 20, "labels": {"near": 20}},
            ],
            "out": {"rows": sum(COUNTS.values()), "labels": COUNTS},
            "flags": {"ambiguous-name": {"rows": 7, "labels": {"near": 7}}},
        }
    },
    "splits": {"train": COUNTS},
    "other_relations": {"[on]": 37_000},
}  # fmt: skip


def _print_lines(funnel: dict, width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(funnel_page(funnel))
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_no_count_is_cut_at_any_width(width):
    lines = _print_lines(FUNNEL, width)
    text = "\n".join(lines)
    assert max(map(len, lines)) <= width and "…" not in text
    assert "[b]below" in text and "[on] 37,000" in text and "unused" not in text
    rows = {line[:20].strip(): line.split() for line in lines[1:]}
    assert rows["rows in"][-1] == "123,456" and rows["− box contradicts"][-1] == "−20"
    for count in COUNTS.values():
        assert f" {count:,}" in text


@pytest.mark.parametrize(("n_labels", "times"), [(20, 1), (6, 1000)])
def test_a_funnel_of_many_classes_or_rows_lists_classes_below_each_other(n_labels, times):
    labels = [f"relation_{i}" for i in range(n_labels)]
    counts = dict.fromkeys(labels, 3 * times)
    total = 3 * times * n_labels
    part = {
        "images": 5,
        "rows": total,
        "dropped": [],
        "out": {"rows": total, "labels": counts},
        "flags": {},
    }
    lines = _print_lines(
        {"labels": labels, "parts": {"": part}, "splits": {"": counts}, "other_relations": {}}
    )
    assert all(len(line) <= 80 for line in lines) and f"{total:,}" in lines[-2]
    assert sum(line.split()[-1:] == [f"{3 * times:,}"] for line in lines) == n_labels
