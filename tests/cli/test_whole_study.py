"""A study of the fake model from its first command to its report, without a batch system."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import yaml
from helpers.commands import run_here
from helpers.forked_jobs import forked_jobs

from vsp.cli.study_probe import study_choice
from vsp.cluster.needed_stages import finished_words
from vsp.evaluation.study_stage import is_finished
from vsp.evaluation.study_transfers import read_transfers
from vsp.extraction.extract import extract
from vsp.storage.axes import read_axes, write_axes
from vsp.storage.find_results import find_results
from vsp.storage.journal import Journal
from vsp.storage.run import Run
from vsp.storage.study import read_study
from vsp.storage.study_record import role_results

NEW = (
    "--model", "fake", "--option", "n_layers=2", "--dataset", "a", "--name", "s",
    "--question", "does the fake model look?", "--profile", "local.yaml", "--n-jobs", "1",
)  # fmt: skip
CONTROLS = ("--with", "blank,mirrored,swapped", "--on", "b")
FEW = (
    "--permutations", "5", "--resamples", "100", "--controls", "0", "--repeats", "1", "--no-curve",
    "--grid", "1",
)  # fmt: skip
SETTING = "logistic-grid-1-repeats-1-permutations-5-controls-0-no-curve-resamples-100"
ROLES = ["original", "blank", "mirrored", "swapped", "on-b"]


@pytest.fixture(autouse=True, scope="module")
def _forked_jobs():
    with forked_jobs():
        yield


@pytest.fixture(scope="module")
def done(tmp_path_factory, spatial):
    """A folder with a study whose runs were probed with few permutations, and the end of it."""
    work = _folder(tmp_path_factory.mktemp("study"), spatial)
    answer = run_here(("study", *NEW, *CONTROLS, "--submit", "--", *FEW), work)
    assert answer.returncode == 0, answer.stderr
    return work, answer


def test_the_options_of_the_probe_are_in_the_file_of_the_study_and_make_its_setting(copy):
    assert yaml.safe_load((copy / "studies/s.yaml").read_text())["probe"] == " ".join(FEW)
    for role in ROLES:
        assert [one.name for one in (copy / f"results/s-{role}").glob("logistic*")] == [SETTING]
    # Results of another setting, also newer ones, are not those of the study.
    one = read_study("s", copy)
    newer = copy / "results/s-blank/mass-mean"
    shutil.copytree(copy / "results/s-blank" / SETTING, newer)
    os.utime(newer / "summary.json")
    assert role_results(one, "blank", copy).setting == SETTING
    shutil.rmtree(copy / "results/s-blank" / SETTING)
    page = run_here(("report", "--study", "s"), copy).stdout
    assert "! blank: not probed yet with the study's setting logistic-grid" in " ".join(
        page.split()
    )
    choice = study_choice(one, False, copy)
    runs = [Run.open(copy / f"scratch/s-{role}") for role in ROLES]
    finished = [bool(finished_words(run, run.ledgers(), choice)) for run in runs]
    assert finished == [role != "blank" for role in ROLES]


def test_options_of_the_probe_that_are_edited_need_new_probes(copy):
    path = copy / "studies/s.yaml"
    path.write_text(re.sub("--permutations '?5'?", "--permutations 7", path.read_text()))
    page = run_here(("report", "--study", "s"), copy).stdout
    assert "not probed yet with the options of studies/s.yaml" in " ".join(page.split())
    choice, run = (
        study_choice(read_study("s", copy), False, copy),
        Run.open(copy / "scratch/s-blank"),
    )
    assert not finished_words(run, run.ledgers(), choice)
    path.write_text(path.read_text().replace("--permutations 7", "--permutations x"))
    answer = run_here(("study", "s"), copy)
    assert answer.returncode == 1
    assert "studies/s.yaml: probe: argument --permutations: 'x' must be" in answer.stderr


def test_every_stage_is_looked_at_before_removed_states_count_as_not_needed(copy):
    study = read_study("s", copy)
    assert is_finished(study, copy)
    for path in ("s/judged-blank.npz", "s-original/axes/s-swapped/last.json", "s/transfers.json"):
        aside = copy / "aside"
        (copy / "results" / path).rename(aside)
        assert not is_finished(study, copy), path
        aside.rename(copy / "results" / path)
    assert is_finished(study, copy)
    (copy / "results/s/judged-blank.npz").unlink()
    shutil.rmtree(copy / "scratch/s-blank")  # not judged, and not given up
    run_here(("study", "s", "--finish"), copy)
    assert not is_finished(study, copy)


def _folder(work, spatial):
    for name in ("a", "b"):
        shutil.copytree(spatial, work / name)
    (work / "local.yaml").write_text("scheduler: local\n")
    return work


def test_all_stages_run_here_and_a_study_that_was_killed_goes_on(tmp_path, spatial):
    work = _folder(tmp_path, spatial)
    process = subprocess.Popen(
        [sys.executable, "-m", "vsp", "study", *NEW, "--limit", "40", "--with", "blank", "--submit", "--", *FEW],
        cwd=work,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not [*work.glob("scratch/s-blank/journal/*")] and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert (work / "scratch/s-original").exists() and not (work / "results/s-original").exists()
    answer = run_here(("study", "s", "--profile", "local.yaml"), work)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.count("planned already: ") == 2 and "wrote studies" not in answer.stdout
    assert answer.stdout.index("run s-blank:") < answer.stdout.index("run s-original:")
    summary, _ = find_results("s-original", work).read()
    assert summary["says"]["scores"]["corrected"] is not None  # by the answers on blank pictures


def test_blank_answers_that_are_newer_than_the_original_s_probes_are_used_once(tmp_path, spatial):
    work = _folder(tmp_path, spatial)
    new = (*NEW, "--limit", "40", "--with", "none", "--submit", "--", *FEW)
    assert run_here(("study", *new), work).returncode == 0
    time.sleep(1.1)  # files of different hosts may be a second apart
    path = work / "studies/s.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "with": ["blank"]}))

    def corrected():
        answer = run_here(("study", "s", "--profile", "local.yaml"), work)
        assert answer.returncode == 0, answer.stderr
        summary, _ = find_results("s-original", work).read()
        return summary["says"]["scores"]["corrected"], answer.stdout

    again = "run s-original: is probed again, because it uses newer answers of run s-blank"
    scores, said = corrected()  # the control was added later
    assert scores is not None and again in said
    scores, said = corrected()
    assert scores is not None and "run s-original: is finished" in said and again not in said
    run = Run.open(work / "scratch/s-blank")
    time.sleep(1.1)
    with Journal(run.journals, run.plan.id, 0) as journal:
        journal.mark_lost([3])
    extract(run, run.shards)
    assert again in corrected()[1]


def test_the_report_begins_with_the_question_and_the_verdict(done):
    work, answer = done
    page = run_here(("report", "--study", "s"), work).stdout
    assert page.startswith("does the fake model look?\n\n")
    verdict, _, rest = page.partition("\n\n")[2].partition("\n\n")
    assert verdict and "study    s" in rest
    assert (work / "results/s/report.txt").read_text() == page and answer.stdout.endswith(page)
    rows = [line.split() for line in page.splitlines() if line.split()[:1] in [[r] for r in ROLES]]
    runs, transfers = rows[:5], rows[5:8]
    assert [row[0] for row in runs] == ROLES and [row[0] for row in transfers] == [
        "mirrored",
        "swapped",
        "on-b",
    ]
    assert max(map(len, page.splitlines())) <= 80


def test_the_figures_are_those_of_each_run_and_of_an_evaluation(done):
    work, _ = done
    values = json.loads(run_here(("report", "--study", "s", "--json"), work).stdout)
    assert list(values["runs"]) == ROLES and values["question"] == "does the fake model look?"
    for role in ROLES:
        summary, _ = find_results(f"s-{role}", work).read()
        assert values["runs"][role]["peak"]["estimate"] == summary["peak"]["estimate"]
        assert values["runs"][role]["words"] == summary["baselines"]["words alone"]
    for role in ("mirrored", "on-b"):
        words = ("evaluate", "s-original", "--on", f"s-{role}", "--partial", "--json")
        (evaluated,) = json.loads(run_here(words, work).stdout)
        assert values["transfers"][role] == evaluated
    assert values["verdict"]["run"] == "s-original" and values["axes"]["swapped"] == "s-swapped"


def test_the_report_needs_the_results_and_the_file_of_the_study_alone(done, tmp_path):
    work, _ = done
    for part in ("results", "studies"):
        shutil.copytree(work / part, tmp_path / part)
    page, there = (run_here(("report", "--study", "s"), one).stdout for one in (work, tmp_path))
    assert page == there


def test_the_page_of_a_study_has_its_question_and_every_run(done):
    work, _ = done
    page = (work / "results/s/report.html").read_text()
    assert "<title>does the fake model look?</title>" in page
    assert all(f"s-{role}" in page for role in ROLES)
    answer = run_here(("report", "--study", "s", "--html", "page.html"), work)
    assert answer.returncode == 0 and (work / "page.html").read_text() == page


def test_the_page_has_axes_and_states_of_the_original_and_as_many_rows_as_are_asked_for(done):
    work, _ = done
    for n in (0, 3):
        words = ("report", "--study", "s", "--html", "page.html", "--gallery", str(n))
        assert run_here(words, work).returncode == 0
        page = (work / "page.html").read_text()
        assert 'id="axes"' in page and 'id="projection"' in page and "s-swapped" in page
        assert ('id="gallery"' in page) == bool(n)
    assert "3 of " in page and "tested rows of s-original" in page
    answer = run_here(("report", "--study", "s", "--gallery", "0"), work)
    assert answer.returncode == 1 and "--gallery 0 needs --html FILE" in answer.stderr


def test_the_page_shows_no_folder_of_the_machine(copy):
    path = copy / "studies/s.yaml"
    path.write_text(
        path.read_text()
        .replace("dataset: a", f"dataset: {copy}/a")
        .replace("- b\n", "- /elsewhere/b\n")
        .replace("plan:\n", "plan:\n  checkpoint: /elsewhere/models/mine\n")
    )
    (copy / "results/s/transfers.json").write_text("{")  # a caution names the file
    assert run_here(("report", "--study", "s", "--html", "page.html"), copy).returncode == 0
    page = (copy / "page.html").read_text()
    assert str(copy) not in page and "/elsewhere" not in page
    assert "dataset: a\n" in page and "checkpoint: mine\n" in page


def test_strata_of_the_original_stand_beside_those_of_the_controls(copy):
    shutil.rmtree(copy / "results/s-mirrored")
    one = json.loads(run_here(("report", "s-original", "--by", "relation", "--json"), copy).stdout)
    answer = run_here(("report", "--study", "s", "--by", "relation", "--json"), copy)
    found = json.loads(answer.stdout)["by"]
    assert found["runs"]["original"] == one["by"]
    assert list(found["runs"]) == ["original", "blank", "swapped"]
    assert found["missing"] == {"mirrored": "no results"}
    page = run_here(("report", "--study", "s", "--by", "relation"), copy).stdout
    assert "Accuracy by relation" in page and "! mirrored: no results" in page
    answer = run_here(("report", "--study", "s", "--by", "nothing"), copy)
    assert answer.returncode == 1 and "--by field 'nothing' is not known" in answer.stderr


def test_a_finished_study_computes_nothing_again(done):
    work, _ = done
    files = {path: path.stat().st_mtime_ns for path in (work / "results").rglob("*.npz")}
    answer = run_here(("study", "s", "--profile", "local.yaml"), work)
    assert answer.returncode == 0 and answer.stdout.count(": is finished\n") == 5
    assert {path: path.stat().st_mtime_ns for path in (work / "results").rglob("*.npz")} == files
    assert "probes of the original are judged" not in answer.stdout


@pytest.fixture
def copy(done, tmp_path):
    """A copy of the finished study."""
    shutil.copytree(done[0], tmp_path / "copy", symlinks=True)
    for path in (tmp_path / "copy/scratch").glob("*/"):
        Run.open(path)
    return tmp_path / "copy"


def test_states_that_were_removed_are_not_needed_for_what_is_kept(copy):
    shutil.rmtree(copy / "scratch")
    shutil.move(copy, copy.parent / "moved")
    copy.parent.joinpath("moved").rename(copy)
    answer = run_here(("report", "--study", "s", "--json"), copy)
    assert answer.returncode == 0 and json.loads(answer.stdout)["transfers"].keys() == {
        "mirrored",
        "swapped",
        "on-b",
    }


def test_a_run_without_results_is_named_and_the_exit_code_says_so(copy):
    for part in ("scratch", "results"):
        shutil.rmtree(copy / part / "s-swapped")
    answer = run_here(("study", "s", "--finish"), copy)
    assert answer.returncode == 1
    assert "study s: 1 of 5 runs have no results: s-swapped; `vsp study s` goes on" in answer.stderr
    assert "! swapped: not planned" in answer.stdout


def test_figures_of_earlier_probes_are_said_to_be_so_and_judged_again(copy):
    probe = ("probe", "s-original", *FEW, "--seed", "3", "--n-jobs", "1")
    assert run_here(probe, copy).returncode == 0
    home = copy / "results/s-original"
    shutil.rmtree(home / SETTING)
    next(home.glob("*seed-3*")).rename(home / SETTING)
    page = run_here(("report", "--study", "s"), copy).stdout
    assert "! transfer to mirrored, swapped, on-b: was judged with earlier probes" in page
    assert "! verdict: lacks the original's probes on blank, mirrored, swapped" in page
    answer = run_here(("study", "s", "--finish"), copy)
    assert (
        answer.returncode == 0
        and answer.stdout.count("probes of the original are judged on it") == 3
    )
    assert "earlier probes" not in answer.stdout and "lacks" not in answer.stdout


def test_axes_of_an_earlier_plan_are_not_shown(copy):
    home = copy / "results/s-original"
    write_axes(replace(read_axes(home, "s-swapped"), identity="0" * 64), home)
    values = json.loads(run_here(("report", "--study", "s", "--json"), copy).stdout)
    assert values["axes"] is None
    assert "axes: belong to an earlier plan of s-original" in " ".join(values["cautions"])


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"format": 1}', '{"format": 1, "targets": {}, "sha256": "x"}']
)
def test_stored_evaluations_that_vsp_did_not_write_are_not_read(copy, text):
    (copy / "results/s/transfers.json").write_text(text)
    found = read_transfers(read_study("s", copy), copy)
    assert not found.transfers and re.search("is damaged|is not what vsp wrote", found.problem)
    answer = run_here(("report", "--study", "s"), copy)
    assert answer.returncode == 0 and "remove it, then `vsp study s --finish`" in " ".join(
        answer.stdout.split()
    )


@pytest.mark.parametrize(
    "words", [("s-original",), ("--layer", "1"), ("--plot", "x.png"), ("--csv", "x"), ("--position", "image")]
)  # fmt: skip
def test_options_about_one_run_are_refused(done, words):
    answer = run_here(("report", "--study", "s", *words), done[0])
    assert answer.returncode == 1 and "applies to one run" in answer.stderr
