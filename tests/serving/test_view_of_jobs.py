"""The index of `vsp view` shows jobs without asking often; a study's verdict is computed once."""

from __future__ import annotations

import re
import time
from threading import Thread

import pytest
from helpers import made
from helpers.large_study import large_study
from helpers.served import Served

from vsp.cluster.jobs import job_owner
from vsp.cluster.slurm import Slurm
from vsp.evaluation.judged_variants import read_judged, write_judged
from vsp.reporting.kept_verdicts import KeptVerdicts
from vsp.reporting.study_facts import study_facts
from vsp.serving.http_server import ResultsServer
from vsp.serving.pages import Pages
from vsp.storage.study import results_folder


@pytest.fixture
def run(plan_fake):
    return plan_fake()


@pytest.fixture
def served(work):
    with ResultsServer(0, Pages(work, Slurm()).answer) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield Served(server.server_port)
        server.shutdown()
        thread.join()


def _squeue(work, monkeypatch, body):
    """A squeue that notes each call in the file `asked`, and then does this."""
    folder = work / "bin"
    folder.mkdir(exist_ok=True)
    path = folder / "squeue"
    path.write_text(f"#!/bin/sh\necho asked >>{work}/asked\n{body}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def _n_asked(work):
    path = work / "asked"
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_the_index_shows_queued_jobs_and_asks_the_batch_system_once(run, served, work, monkeypatch):
    line = f"7|PENDING|||0|vsp:{job_owner(run)}:probe:0|Dependency|"
    _squeue(work, monkeypatch, f"cat <<'EOF'\n{line}\nEOF")
    index = served.get("/").text
    assert re.search(r'<th scope="col">jobs</th>', index) and ">1 queued</td>" in index
    n = _n_asked(work)
    assert n > 0
    assert ">1 queued</td>" in served.get("/").text and _n_asked(work) == n


def test_results_without_a_run_are_not_asked_about(served, work, monkeypatch):
    made.made(work / "results" / "small" / "logistic")
    _squeue(work, monkeypatch, "exit 0")
    assert served.get("/").status == 200 and _n_asked(work) == 0


@pytest.mark.usefixtures("run")
def test_a_batch_system_that_does_not_answer_is_said_and_keeps_nobody_waiting(
    served, work, monkeypatch
):
    _squeue(work, monkeypatch, "exit 1")
    assert "queued jobs are not shown" in served.get("/").text


@pytest.mark.usefixtures("run")
def test_a_slow_batch_system_keeps_nobody_waiting(served, work, monkeypatch):
    _squeue(work, monkeypatch, "exec sleep 4")
    started = time.monotonic()
    index = served.get("/").text
    assert time.monotonic() - started < 3.5
    assert "The batch system has not answered yet, so nothing is known of jobs yet" in index


def test_a_page_is_made_again_after_a_file_below_its_results_changed(served, work):
    results = made.made(work / "results" / "small" / "logistic")
    first = served.get("/run/small").text
    assert "axes/twin" not in first
    path = results.home / "axes" / "twin" / "last.json"
    path.parent.mkdir(parents=True)
    path.write_text("{")
    assert "small/axes/twin/last.json: is not JSON" in served.get("/run/small").text
    path.write_text("{}")
    assert "small/axes/twin/last.json: has another format" in served.get("/run/small").text


def test_a_verdict_is_computed_once_for_each_state_of_what_it_is_made_of(work):
    study = large_study(work)
    kept = KeptVerdicts()
    first = study_facts(study, work, verdicts=kept).verdict
    assert first is not None and study_facts(study, work, verdicts=kept).verdict is first
    assert study_facts(study, work, 0.2, kept).verdict is not first  # another margin
    path = results_folder("large", work) / "judged-blank.npz"
    judged = read_judged(path)
    judged.predicted[:] = 0
    write_judged(path, judged)
    second = study_facts(study, work, verdicts=kept).verdict
    assert second is not first and second != first
