import io
import json

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from vsp.errors import ConfigError
from vsp.extract import extract
from vsp.fit import Settings, probe_run
from vsp.journal import Journal
from vsp.report import as_json, plot, report_table, status_json, status_line, status_table


@pytest.fixture(scope="module")
def results(tmp_path_factory, spatial):
    from vsp import models
    from vsp.plan import Request, make

    work = tmp_path_factory.mktemp("report")
    run = make(Request(spatial, models.resolve("fake"), n_shards=2), work).run
    extract(run, run.shards)
    return probe_run(run, Settings(), n_jobs=1)


def _printed(renderable, width=80, **options):
    console = Console(file=io.StringIO(), width=width, highlight=False, **options)
    console.print(renderable)
    return console.file.getvalue()


def test_a_row_for_each_layer_with_its_scores_in_80_columns(results):
    text = _printed(report_table(results))
    assert max(map(len, text.splitlines())) <= 80
    for score in results.scores():
        cells = [f"{score.layer}", f"{score.accuracy:.3f}", f"{score.macro_f1:.3f}"]
        assert any(line.split()[:3] == cells for line in text.splitlines())
    summary = results.summary()
    assert f"best layer {summary['best_layer']}: accuracy" in text
    assert "96 done, 0 failed, 0 missing of 96" in text and "all 120 fits converged" in text
    assert "\x1b" not in text


def test_square_brackets_and_colors_survive_where_they_should(results):
    assert "\x1b[1;32m" in _printed(
        report_table(results), force_terminal=True, color_system="standard"
    )


def test_fits_that_did_not_converge_are_shown(plan_fake):
    run = plan_fake()
    extract(run, run.shards)
    results = probe_run(run, Settings(max_iter=2), n_jobs=1)
    summary = results.summary()
    assert summary["n_not_converged"] > 0
    expected = f"{summary['n_not_converged']} of {summary['n_fits']} fits did not converge"
    assert expected in _printed(report_table(results))


def test_json_holds_every_figure(results):
    values = json.loads(json.dumps(as_json(results)))
    assert [layer["layer"] for layer in values["layers"]] == list(range(5))
    assert values["layers"][3]["accuracy"] == results.scores()[3].accuracy
    assert values["rows"]["done"] == 96


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_a_plot_is_drawn_and_drawn_the_same_again(results, tmp_path, suffix):
    path = tmp_path / f"new folder/accuracy{suffix}"
    plot(results, path)
    first = path.read_bytes()
    plot(results, path)
    assert path.read_bytes() == first
    if suffix == ".png":
        pixels = np.asarray(Image.open(path).convert("RGB"))
        assert pixels.shape[0] > 500 and (pixels != 255).any(axis=2).mean() > 0.01
    else:
        text = first.decode()
        assert all(
            word in text for word in ("test accuracy", "chance", "layer (0 = embedding output)")
        )


def test_another_kind_of_plot_is_refused(results, tmp_path):
    with pytest.raises(ConfigError, match=r"ends in '\.pdf'; use \.png or \.svg"):
        plot(results, tmp_path / "a.pdf")


def test_status_counts_rows_by_shard_and_tells_why_rows_failed(plan_fake):
    run = plan_fake(n_shards=2)
    extract(run, [run.shards[1]])
    with Journal(run.journals, run.plan.id, 0) as journal:
        for row in range(12):
            journal.failed(row, f"reason [layer {row}]")
    ledgers = run.ledgers()
    shards = run.shards
    size = shards[1].stop - shards[1].start
    lines = [line.split() for line in _printed(status_table(run, ledgers)).splitlines()]
    assert ["0", f"0–{shards[0].stop - 1}", "0", "12", str(shards[0].stop - 12)] in lines
    assert ["all", "96", str(size), "12", str(96 - size - 12)] in lines
    text = _printed(status_table(run, ledgers))
    assert "row 9 failed: reason [layer 9]" in text and "… and 2 more" in text
    values = status_json(run, ledgers)
    assert values["shards"][0]["failed"]["11"] == "reason [layer 11]"
    assert status_line(run, ledgers).startswith(f"run {run.name}: {size} rows done, 12 failed")
