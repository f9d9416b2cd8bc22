"""`vsp runs` lists every run with what was planned, extracted and found, at any width."""

from __future__ import annotations

import fcntl
import json
import re
from io import StringIO
from pathlib import Path

import pytest
from helpers import made

from vsp.cluster.contract import TaskState
from vsp.cluster.run_jobs import Activity
from vsp.extraction.extract import extract
from vsp.reporting.runs_page import RunRow, runs_page
from vsp.storage.run_list import list_runs
from vsp.utils.terminal import Page

LOCAL = "scheduler: local\n"


@pytest.fixture
def listed(vsp, work):
    """`vsp runs --json` without a batch system: name of a run → its facts."""
    (work / "local.yaml").write_text(LOCAL)

    def ask(*words):
        answer = vsp("runs", "--json", "--profile", "local.yaml", *words)
        assert answer.returncode == 0, answer.stderr
        return {run["run"]: run for run in json.loads(answer.stdout)}

    return ask


def _page(rows, width):
    text = StringIO()
    Page(text, width=width).print(runs_page(rows, []))
    return text.getvalue()


def test_a_run_is_listed_with_its_plan_its_rows_and_its_size(plan_fake, listed, spatial):
    run = plan_fake(prompt="question", positions=("last", "image"), n_shards=2)
    extract(run, run.shards[:1])
    facts = listed()[run.name]
    assert facts["dataset"] == str(spatial) and facts["prompt"] == "question"
    assert facts["positions"] == ["last", "image"] and facts["rows"] == 96
    assert facts["done"] == run.shards[0].stop and facts["failed"] == 0
    assert facts["planned"] == run.plan.created and facts["probes"] == []
    n_bytes = sum(store.layout.n_bytes for store in run.stores.values())
    assert n_bytes <= facts["scratch_bytes"] < 2 * n_bytes + 100_000
    assert facts["results_bytes"] is None and facts["problems"] == []


def test_the_peak_is_that_of_the_report_with_its_interval(work, listed):
    results = made.made(work / "results" / "small")
    peak = results.summary()["peak"]
    (found,) = listed()["small"]["probes"]
    assert [found[name] for name in ("estimate", "low", "high")] == [
        peak[name] for name in ("estimate", "low", "high")
    ]
    assert str(found["layer"]) == max(peak["layers"], key=peak["layers"].get)
    assert f"{peak['estimate']:.3f} [{peak['low']:.3f}, {peak['high']:.3f}]" in _page(
        [RunRow(run, Activity()) for run in list_runs(work)], 100
    )


def test_a_run_of_which_only_results_are_left_is_listed(work, listed, vsp):
    made.made(work / "results" / "old")
    facts = listed()["old"]
    assert facts["done"] is None and facts["scratch_bytes"] is None and facts["rows"] == 240
    assert re.search(r"^old .* no states ", vsp("runs", "--profile", "local.yaml").stdout, re.M)


def test_a_run_that_cannot_be_read_is_listed_with_the_reason(plan_fake, work, vsp, listed):
    plan_fake()
    for name, text in {"broken": "{", "edited": "{}"}.items():
        (work / "scratch" / name).mkdir()
        (work / "scratch" / name / "plan.json").write_text(text)
    made.made(work / "results" / "torn")
    (work / "results" / "torn" / "summary.json").write_text("[]")
    facts = listed()
    assert set(facts) == {"fake-spatial", "broken", "edited", "torn"}
    assert "is not JSON" in facts["broken"]["problems"][0]
    assert [len(facts[name]["problems"]) for name in ("edited", "torn", "fake-spatial")] == [
        1,
        1,
        0,
    ]
    page = vsp("runs", "--profile", "local.yaml").stdout
    assert "broken" in page and "is not JSON" in page


def test_the_newest_run_comes_first_and_named_runs_alone_are_listed(plan_fake, listed, work):
    made.made(work / "results" / "old")
    run = plan_fake()
    assert list(listed()) == [run.name, "old"]
    assert list(listed("old", "old")) == ["old"]


def test_an_unknown_name_is_answered_with_the_nearest(plan_fake, vsp):
    plan_fake()
    answer = vsp("runs", "fake-spatail")
    assert answer.returncode == 1 and "there is fake-spatial" in answer.stderr


def test_without_runs_the_folder_is_named(vsp, work):
    assert vsp("runs").stdout.startswith(f"{work}: holds no run; `vsp plan` makes one")


def test_a_task_that_runs_here_is_shown(plan_fake, work, listed, vsp):
    run = plan_fake()
    extract(run, run.shards)
    (journal,) = run.journals.iterdir()
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-1]))  # as before its end is written
    with journal.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert listed()[run.name]["running_here"] == [True]
        assert "extract running" in vsp("runs", "--profile", "local.yaml").stdout


def test_jobs_are_counted_by_stage_and_phase():
    tasks = [TaskState(f"1_{i}", "extract", i, "queued" if i else "running", "X") for i in range(4)]
    activity = Activity((*tasks, TaskState("2", "probe", None, "queued", "PENDING")))
    assert activity.words() == "extract 1 running, 3 queued; probe 1 queued"
    assert Activity(here=(None,)).words() == "extract running?" and not Activity().words()


def test_a_folder_that_a_killed_plan_left_is_named(plan_fake, work, vsp):
    plan_fake()
    (work / "local.yaml").write_text(LOCAL)
    (work / "scratch" / ".other.0123abcd").mkdir()
    assert "scratch/.other.0123abcd: was left" in vsp("runs", "--profile", "local.yaml").stdout


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_a_page_fits_and_cuts_no_number(plan_fake, work, width):
    run = plan_fake(name="a-long-name-" * 6 + "of-a-run")
    made.made(work / "results" / "small")
    jobs = Activity(tuple(TaskState(f"1_{i}", "extract", i, "queued", "PD") for i in range(3)))
    page = _page([RunRow(one, jobs) for one in list_runs(work)], width)
    lines = [line.rstrip() for line in page.splitlines()]
    assert max(map(len, lines)) <= width and "…" not in page
    table = "".join(line.split("  ")[0] for line in lines)
    assert run.name in table.replace(" ", "") or width == 200
    header = lines[0].split()
    for name, text in {"size": r"\d+ kB", "jobs": "extract 3 queued", "layer": r"\d+"}.items():
        assert (name in header) == bool(
            re.search(rf"  {text}(  |$)", page, re.M)
        ) or name == "layer"
    if width == 200:
        assert not re.search("no room", page)
    else:
        assert "no room for" in page


def test_links_are_not_followed_when_sizes_are_added(plan_fake, work, listed, tmp_path_factory):
    run = plan_fake()
    before = listed()[run.name]["scratch_bytes"]
    large = tmp_path_factory.mktemp("large") / "file"
    large.write_bytes(bytes(10_000_000))
    (run.folder / "link").symlink_to(large)
    assert listed()[run.name]["scratch_bytes"] < before + 100_000
    moved = run.folder.rename(work / "elsewhere")
    run.folder.symlink_to(moved)  # the run itself is a link, and its space is not in scratch/
    assert listed()[run.name]["scratch_bytes"] < 10_000


def test_every_setting_of_the_probe_is_counted(work, listed):
    made.made(work / "results" / "small")
    other = made.made(work / "results" / "other", name="small", position="image").folder
    other.rename(work / "results" / "small" / "image-logistic")
    probes = listed()["small"]["probes"]
    assert [probe["position"] for probe in probes] == ["last", "image"]
    assert [Path(probe["folder"]).name for probe in probes] == ["logistic", "image-logistic"]
