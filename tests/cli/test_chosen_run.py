"""The run that a command takes: named in several ways, or the newest, unless the last plan failed."""

from __future__ import annotations

import json
import re
import shutil
from datetime import UTC, datetime, timedelta

import pytest
from helpers import made

from vsp.cli.failed_plan import RECORD
from vsp.extraction.extract import extract

NEWEST = re.compile(r"^note: run (\S+) \(newest, planned \d+ s ago\)$", re.M)


def _plan(vsp, spatial, *words):
    return vsp("plan", "--model", "fake", "--dataset", spatial, "--limit", "24", *words)


@pytest.mark.parametrize(
    "command",
    [("status",), ("logs",), ("extract", "--workers", "0"), ("verify", "--n-jobs", "1"),
     ("submit", "--dry-run"), ("export", "--to", "npz", "--out", "states.npz", "--partial")],
    ids=lambda command: command[0],
)  # fmt: skip
def test_a_command_without_a_run_names_the_newest_with_its_age(plan_fake, vsp, command):
    run = plan_fake(limit=24)
    extract(run, run.shards)
    assert NEWEST.findall(vsp(*command).stderr) == [run.name]
    assert not NEWEST.search(vsp(command[0], run.name, *command[1:]).stderr)


def test_a_report_names_the_newest_run_also_where_only_results_are(vsp, work):
    made.made(work / "results" / "small")
    answer = vsp("report", "--json")
    assert re.match(r"note: run small \(newest, planned \d+ days ago\)\n", answer.stderr), (
        answer.stderr
    )
    assert json.loads(answer.stdout)["run"] == "small"
    assert "newest" not in vsp("report", "small").stderr


def test_a_run_is_an_argument_or_an_option_and_only_one(plan_fake, vsp):
    run, other = plan_fake(name="one"), plan_fake(name="two")
    pages = {vsp("status", "--json", *words).stdout for words in ([run.name], ["--run", run.name],
                                                                  [run.name, "--run", run.name])}  # fmt: skip
    assert len(pages) == 1 and json.loads(pages.pop())["run"] == "one"
    answer = vsp("status", run.name, "--run", other.name)
    assert answer.returncode == 2 and "two runs are named: " in answer.stderr


def test_logs_take_a_run_a_shard_or_both_in_any_order(plan_fake, vsp):
    plan_fake(name="one", n_shards=2)
    plan_fake(name="two")
    for words in (["one", "1"], ["1", "one"], ["1", "--run", "one"]):
        answer = vsp("logs", *words)
        assert "newest" not in answer.stderr and "shard 1: no batch job is known" in answer.stderr
    assert "run two: has no shard 1" in vsp("logs", "1").stderr
    for words, said in {("0", "1"): "several shards", ("one", "two"): "several runs"}.items():
        answer = vsp("logs", *words)
        assert answer.returncode == 1 and said in answer.stderr


FAILURES = {
    "no dataset": ("plan", "--model", "fake", "--dataset", "none"),
    "unknown model": ("plan", "--model", "nothing"),
    "mistyped option": ("plan", "--modle", "fake"),
    "after --quiet": ("--quiet", "plan", "--modle", "fake"),
}


@pytest.mark.parametrize("failing", FAILURES.values(), ids=FAILURES)
def test_after_a_failed_plan_no_command_takes_an_older_run(plan_fake, vsp, work, failing):
    run = plan_fake(limit=24)
    made.made(work / "results" / "old")
    assert vsp(*failing).returncode != 0
    for command in (["status"], ["extract"], ["report"], ["submit", "--dry-run"]):
        answer = vsp(*command)
        assert answer.returncode == 1 and not answer.stdout
        assert re.search(r"vsp: `vsp .*plan --.*` failed \(\d+ s ago\), so", answer.stderr)
        assert f"vsp COMMAND {run.name}" in answer.stderr
    assert vsp("status", run.name).returncode == 0  # a named run always works
    assert vsp("runs").returncode == 0


def test_after_a_failed_plan_no_older_results_are_reported(vsp, work):
    made.made(work / "results" / "old")
    assert vsp("report").returncode == 0
    vsp(*FAILURES["unknown model"])
    answer = vsp("report")
    assert answer.returncode == 1 and "the newest run is an older one, old" in answer.stderr
    assert vsp("report", "old").returncode == 0


def test_the_next_plan_that_succeeds_ends_it(plan_fake, vsp, spatial, work):
    plan_fake(limit=24)
    vsp(*FAILURES["no dataset"])
    assert (work / RECORD).exists() and vsp("status").returncode == 1
    assert _plan(vsp, spatial).returncode == 0
    assert not (work / RECORD).exists() and vsp("status").returncode == 0


def test_a_newer_run_that_was_made_in_another_way_counts(plan_fake, vsp, work):
    plan_fake(limit=24)
    vsp(*FAILURES["no dataset"])
    record = json.loads((work / RECORD).read_text())
    record["time"] = (datetime.now(UTC) - timedelta(seconds=9)).isoformat(timespec="seconds")
    (work / RECORD).write_text(json.dumps(record))
    plan_fake(limit=24)
    assert vsp("status").returncode == 0


def test_a_plan_that_was_killed_counts_as_failed(plan_fake, vsp, work):
    plan_fake(limit=24)
    vsp(*FAILURES["no dataset"])
    record = json.loads((work / RECORD).read_text())
    (work / RECORD).write_text(json.dumps({**record, "pid": 1}))
    assert "has not ended, or was killed" in vsp("status").stderr


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"words": 3, "time": "x", "pid": 0}'])
def test_a_record_that_vsp_did_not_write_is_ignored(plan_fake, vsp, work, text):
    plan_fake(limit=24)
    (work / RECORD).write_text(text)
    assert vsp("status").returncode == 0


def test_a_plan_that_fails_in_an_empty_folder_leaves_nothing(vsp, work):
    vsp(*FAILURES["no dataset"])
    assert not (work / "scratch").exists()


def test_the_name_of_a_run_whose_states_are_gone_leads_to_its_results(plan_fake, vsp, work):
    run = plan_fake(limit=24)
    made.made(work / "results" / run.name)
    shutil.rmtree(run.folder)
    answer = vsp("status", run.name)
    assert answer.returncode == 1
    assert f"`vsp report {run.name}` shows its results" in answer.stderr
