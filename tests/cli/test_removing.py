"""`vsp rm` asks, says what can be made again, refuses runs in use, and never leaves half a run."""

from __future__ import annotations

import fcntl
import os
import pty
import shutil
import subprocess
import sys
import time

import pytest
from helpers import made, stored_runs

from vsp.errors import DiskError
from vsp.extraction.extract import extract
from vsp.storage.remove_folder import remove_folders

LOCAL = ("--profile", "local.yaml")


@pytest.fixture
def rm(vsp, work):
    """`vsp rm` without a batch system."""
    (work / "local.yaml").write_text("scheduler: local\n")
    return lambda *words: vsp("rm", *LOCAL, *words)


@pytest.fixture
def run(plan_fake):
    run = plan_fake(limit=24)
    extract(run, run.shards)
    return run


def _age(folder, days):
    then = time.time() - days * 86400
    for path in (folder, *folder.rglob("*")):
        os.utime(path, (then, then))


def test_states_are_removed_and_results_stay(run, rm, work, vsp):
    made.made(work / "results" / run.name)
    answer = rm(run.name, "--yes")
    assert answer.returncode == 0, answer.stderr
    assert not run.folder.exists() and [*(work / "scratch").iterdir()] == []
    assert f"its results stay in results/{run.name}" in answer.stdout
    assert vsp("report", run.name).returncode == 0


def test_results_are_removed_too_if_asked_for(run, rm, work):
    made.made(work / "results" / run.name)
    assert rm(run.name, "--results", "--yes").returncode == 0
    assert not run.folder.exists() and not (work / "results" / run.name).exists()


def test_of_a_run_with_results_only_they_must_be_asked_for(rm, work):
    made.made(work / "results" / "old")
    assert "has no states here, only results; `vsp rm old --results`" in rm("old", "--yes").stderr
    assert rm("old", "--yes", "--results").returncode == 0
    assert not (work / "results" / "old").exists()


def test_without_a_terminal_nothing_is_removed_unless_yes_is_said(run, work):
    (work / "local.yaml").write_text("scheduler: local\n")
    answer = subprocess.run(
        [sys.executable, "-m", "vsp", "rm", run.name, *LOCAL],
        cwd=work, input="y\n", capture_output=True, text=True,
    )  # fmt: skip
    assert answer.returncode == 1 and "add --yes" in answer.stderr and run.folder.exists()


@pytest.mark.parametrize(
    ("typed", "is_removed"), [("y", True), ("YES", True), ("", False), ("n", False)]
)
def test_in_a_terminal_it_asks_and_only_yes_removes(run, work, typed, is_removed):
    (work / "local.yaml").write_text("scheduler: local\n")
    master, slave = pty.openpty()
    os.write(master, f"{typed}\n".encode())
    answer = subprocess.run(
        [sys.executable, "-m", "vsp", "rm", run.name, *LOCAL],
        cwd=work, stdin=slave, capture_output=True, text=True,
    )  # fmt: skip
    os.close(slave)
    os.close(master)
    assert "remove 1 run, " in answer.stderr and "? [y/N]" in answer.stderr
    assert (answer.returncode == 0) == is_removed != run.folder.exists()
    assert is_removed or "vsp: nothing was removed" in answer.stderr


def test_a_run_that_was_used_while_the_question_was_open_is_not_removed(run, work):
    (work / "local.yaml").write_text("scheduler: local\n")
    _age(run.folder, 40)
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "vsp", "rm", "--older-than", "30d", *LOCAL],
        cwd=work, stdin=slave, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    asked = process.stderr.readline()
    (run.folder / "plan.json").touch()
    os.write(master, b"y\n")
    said = process.communicate()[1]
    os.close(slave)
    os.close(master)
    assert "[y/N]" in asked and f"{run.name}: used since the question" in said
    assert process.returncode == 1 and run.folder.exists()


def test_a_dry_run_removes_nothing(run, rm):
    answer = rm(run.name, "--dry-run")
    assert answer.returncode == 0 and "nothing was removed" in answer.stdout
    assert run.folder.exists()


def test_it_says_what_can_be_made_again(run, rm, spatial):
    said = rm(run.name, "--dry-run").stdout
    assert "can be made again: the states of 24 extracted rows, by `vsp plan` and" in said
    assert str(spatial) in said and "cannot" not in said


def test_states_of_a_dataset_that_is_gone_cannot_be_made_again(plan_fake, spatial, rm, work):
    own = work / "own"
    shutil.copytree(spatial, own)
    run = plan_fake(own, limit=24)
    extract(run, run.shards)
    shutil.rmtree(own)
    said = rm(run.name, "--dry-run", "--results").stdout
    assert (
        f"cannot be made again: the states of 24 extracted rows: the dataset {own} is gone" in said
    )


def test_states_of_a_checkpoint_that_was_changed_cannot_be_made_again(
    checkpoint, spatial, work, rm
):
    from vsp import models
    from vsp.extraction.plan import PlanRequest, plan_run

    own = work / "model"
    shutil.copytree(checkpoint, own)
    model = models.resolve("llava15", checkpoint=str(own), quantization="none")
    run = plan_run(PlanRequest(spatial, model, limit=8), work).run
    (own / "config.json").write_text((own / "config.json").read_text() + "\n")
    assert f"the checkpoint {own} was changed since the plan" in rm(run.name, "--dry-run").stdout
    shutil.rmtree(own)
    assert f"cannot be made again: the checkpoint {own}" in rm(run.name, "--dry-run").stdout


def test_imported_states_are_not_computed_again(work, rm):
    stored_runs.run_of(work, "theirs", stored_runs.rows())
    assert "by `vsp import states " in rm("theirs", "--dry-run").stdout
    (work / "theirs.npz").unlink()
    said = rm("theirs", "--dry-run").stdout
    assert "cannot be made again: the states were imported, not computed, and the file" in said


def test_runs_of_an_age_are_those_in_which_nothing_was_written_since(plan_fake, rm, work):
    old, resumed, new = (plan_fake(name=name, limit=24) for name in ("old", "resumed", "new"))
    for run in (old, resumed):
        _age(run.folder, 40)
    extract(resumed, resumed.shards)
    made.made(work / "results" / "older")
    answer = rm("--older-than", "30d", "--keep-results", "--yes")
    assert answer.returncode == 0 and "removed 1 run" in answer.stdout
    assert not old.folder.exists() and resumed.folder.exists() and new.folder.exists()
    assert (work / "results" / "older").exists()
    assert (
        rm("--older-than", "30d", "--yes").stdout == "nothing to remove: no run here is that old\n"
    )


def test_a_run_that_is_extracted_here_is_refused(run, rm):
    (journal,) = run.journals.iterdir()
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-1]))
    _age(run.folder, 40)
    with journal.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        answer = rm(run.name, "--yes")
        assert answer.returncode == 1 and "a task extracts its rows" in answer.stderr
        answer = rm("--older-than", "1d", "--yes")
        assert answer.returncode == 0 and f"run {run.name} is left as it is" in answer.stderr
    assert run.folder.exists()
    assert rm(run.name, "--yes").returncode == 0


def _squeue(work, monkeypatch, text):
    """Commands of a Slurm whose squeue prints a text, or fails if it is empty."""
    programs = work / "bin"
    programs.mkdir()
    for name in ("squeue", "sacct", "sbatch", "scontrol"):
        body = f"cat <<'EOF'\n{text}\nEOF\n" if text and name == "squeue" else "exit 1\n"
        (programs / name).write_text(f"#!/bin/bash\n{body}")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")


def test_a_run_with_a_queued_job_is_refused(run, vsp, work, monkeypatch):
    from vsp.cluster.jobs import job_owner

    _squeue(work, monkeypatch, f"7|PENDING|||0|vsp:{job_owner(run)}:probe:0|Dependency|")
    answer = vsp("rm", run.name, "--yes")
    assert answer.returncode == 1 and "its jobs run or wait: probe 1 queued" in answer.stderr
    assert run.folder.exists()


def test_a_run_whose_jobs_are_not_known_is_refused(run, vsp, work, monkeypatch):
    _squeue(work, monkeypatch, "")
    answer = vsp("rm", run.name, "--yes")
    assert answer.returncode == 1 and "does not say whether its jobs run" in answer.stderr
    assert run.folder.exists()


def test_a_link_is_removed_and_its_target_is_kept(run, rm, work):
    target = work / "elsewhere"
    run.folder.rename(target)
    run.folder.symlink_to(target)
    (target / "inner").symlink_to(work)
    said = rm(run.name, "--yes").stdout
    assert "is a link; its target is kept" in said
    assert not os.path.lexists(run.folder) and (target / "plan.json").exists()
    shutil.rmtree(work / "links", ignore_errors=True)
    (work / "links").mkdir()
    (work / "links" / "inner").symlink_to(target)
    remove_folders([work / "links"])
    assert (target / "plan.json").exists()


def test_if_one_folder_cannot_be_renamed_none_is_removed(work):
    (work / "a").mkdir()
    (work / "a" / "file").write_text("1")
    with pytest.raises(DiskError, match="so nothing was removed"):
        remove_folders([work / "a", work / "missing"])
    assert (work / "a" / "file").read_text() == "1" and [one.name for one in work.iterdir()] == [
        "a"
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [((), "name runs, or say --older-than AGE"), (("x", "--older-than", "3d"), "one of the two"),
     (("nothing",), "nothing: no such run")],
)  # fmt: skip
def test_what_is_to_be_removed_is_named_in_one_way(rm, words, said):
    answer = rm(*words, "--yes")
    assert answer.returncode == 1 and said in answer.stderr


@pytest.mark.parametrize("age", ["3", "0d", "d", "-1d", "1y", "٣d"])
def test_an_age_has_a_number_and_a_unit(rm, age):
    answer = rm(f"--older-than={age}", "--yes")
    assert answer.returncode == 2 and "must be an age, as 30d, 2w or 12h" in answer.stderr
