import io

import pytest
from rich.console import Console

from vsp.extraction.bench import Bench, Way
from vsp.reporting.bench_tables import bench_page

WAYS = (
    Way("transformers, one by one", 1, 12.3, 2_300_000_000, 1.0, None, None),
    Way("vsp --no-sharing", 16, None, None, None, None, None),
    Way("vsp", 64, 45.6, 12_300_000_000, 3.71, 0.97, 11_900_000_000),
    Way("vsp, answers", 64, 40.1, 12_400_000_000, 3.26, None, None, 1.137),
    Way("vsp, answers, subject-box", 16, 39.1, 12_400_000_000, 3.17, None, None, 1.151),
)


def _printed(benches, n_planned, width=80):
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(bench_page(benches, n_planned))
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= width and "…" not in text
    return text.splitlines(), " ".join(text.split())


def test_a_narrow_terminal_leaves_out_whole_columns_and_breaks_no_name_within_a_word():
    bench = Bench("own rows", 128, 32, WAYS, 1e-3, True, 210.0, 47.0, (2, 1), ("why",))
    for width in (40, 50, 60):
        lines, text = _printed([bench], 100_000, width)
        assert "Not shown at this width: " in text
        for words in ("transformers,", "answers,", "45.6", "12.3"):
            assert any(words in line for line in lines)


@pytest.mark.parametrize("width", [80, 120, 200])
def test_every_figure_of_every_way_is_there(width):
    lines, text = _printed(
        [Bench("own rows", 128, 32, WAYS, 1e-3, True, 210.0, 47.0, (2, 1), ("why",))],
        100_000,
        width,
    )
    cells = [line.split() for line in lines]
    for row in (
        "1 12.3 1.00 2.3 GB",
        "16 too big",
        "64 45.6 3.71 0.97 12.3 GB 11.9 GB",
        "64 40.1 3.26 1.14 12.4 GB",
        "16 39.1 3.17 1.15 12.4 GB",
    ):
        assert any(" ".join(cell).endswith(row) for cell in cells)
    assert lines[0].rstrip() == "128 own rows, 32 images"
    host = "one core prepares 210.0 pictures/s, for 840.0 rows/s"
    assert f"{host}; forward passes alone: 47.0 rows/s" in text
    assert "states of all ways differ by at most 0.001 of the largest value in their layer" in text
    assert (
        "the plan's 100,000 rows take about 36.5 minutes in one task at 45.6 rows/s, 0.61 GPU-hours; "
        "with answers: 1.14 times as long"
    ) in text
    assert "answers: 2 options of 1, 2 tokens why" in text
    for note in (
        "batch: ",
        "speed-up: ",
        "times vsp: ",
        "of forward: ",
        "peak: ",
        "forward peak: ",
    ):
        assert note in text


def test_without_a_plan_the_time_is_that_of_a_million_rows():
    bench = Bench("own rows", 128, 23, WAYS[:1], None, False, 210.0, None)
    assert bench.best is None and "take about" not in _printed([bench], None)[1]
    bench = Bench("own rows", 128, 23, WAYS, None, False, 210.0, None)
    text = _printed([bench], None)[1]
    assert "a million rows take about 6.1 hours in one task at 45.6 rows/s; with answers:" in text
    assert "states of all ways differ" not in text and "forward passes alone:" not in text


def test_only_what_the_table_shows_is_explained():
    way = Way("vsp", 64, 45.6, 12_300_000_000, None, None, None)
    _, text = _printed([Bench("own rows", 128, 32, (way,), None, False, 210.0, None, (), ())], None)
    assert "peak: memory besides the weights." in text and "batch: this many" in text
    for words in ("too big: ", "speed-up: ", "times vsp: ", "of forward: ", "forward peak: "):
        assert words not in text
