import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from vsp.errors import ConfigError, RunError
from vsp.extract import extract
from vsp.fit import Settings, probe_run
from vsp.journal import Journal
from vsp.report import as_json, plot, report_table
from vsp.results import Results


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


@pytest.mark.parametrize(
    ("whys", "line"),
    [
        (["gone"] * 3, "failed rows: 3 × gone"),
        (["[/b]"] * 3 + ["rare"], "failed rows: 3 × [/b]; 1 × rare"),
        (
            ["gone"] * 3 + ["rare", "strange"],
            "failed rows: 3 × gone; 1 × rare; 1 for other reasons; `vsp status --json` has all",
        ),
        (
            ["gone"] * 3 + ["short"] * 2 + [f"row {i}" for i in range(12)],
            "failed rows: 3 × gone; 2 × short; 12 for other reasons; `vsp status --json` has all",
        ),
    ],
)
def test_the_report_tells_why_rows_failed(plan_fake, whys, line):
    run = plan_fake(n_shards=2)
    extract(run, [run.shards[0]])
    first = run.shards[1].start
    with Journal(run.journals, run.plan.id, 1) as journal:
        for row, why in enumerate(whys, start=first):
            journal.failed(row, why)
    results = probe_run(run, Settings(folds=2), n_jobs=1, partial=True)
    text = _printed(report_table(results))
    assert line in " ".join(text.split()) and max(map(len, text.splitlines())) <= 80
    assert f"{96 - first} rows failed or missing were left out" in text
    assert sum(as_json(results)["failed_reasons"].values()) == min(len(whys), 3 + 2 + 8)


def test_a_report_without_failed_rows_says_nothing_of_them(results):
    assert "failed rows" not in _printed(report_table(results))
    assert as_json(results)["failed_reasons"] == {}


def test_results_that_were_changed_are_refused_by_table_json_and_plot(results, tmp_path):
    folder = tmp_path / "changed"
    shutil.copytree(results.folder, folder)
    path = folder / "scores.jsonl"
    path.write_text(path.read_text().replace('"accuracy": 0', '"accuracy": 1', 1))
    for show in (report_table, as_json, lambda changed: plot(changed, tmp_path / "a.png")):
        with pytest.raises(RunError, match=r"scores\.jsonl: .*run `vsp probe` again"):
            show(Results(folder))
    assert not (tmp_path / "a.png").exists()
