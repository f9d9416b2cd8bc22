"""Tasks that put themselves back into the queue near their time limit, and chains that outlive it."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from helpers import rig
from helpers.commands import run_here

from vsp.cluster.contract import Job
from vsp.cluster.jobs import chain, scheduler_of, task_states
from vsp.cluster.requeue import n_requeues, with_requeues
from vsp.cluster.slurm import Slurm
from vsp.config import Profile, parse
from vsp.errors import ConfigError
from vsp.extraction.extract import extract
from vsp.storage.layout import HEADER_BYTES
from vsp.storage.run import Run
from vsp.utils.signals import Stopped

NO_SLURM = rig.why_not()
on_slurm = pytest.mark.skipif(
    bool(NO_SLURM) and os.environ.get("CI") != "true", reason=f"no Slurm: {NO_SLURM}"
)
TASK = {"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3"}


@pytest.fixture
def run(plan_fake):
    return plan_fake(batch_size=8)


@pytest.fixture
def scontrol(work, monkeypatch):
    """Set what `scontrol` does; returns the file of its command lines."""

    def program(script):
        path = work / "bin/scontrol"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'#!/bin/bash\necho "$*" >>{work}/asked\n{script}\n')
        path.chmod(0o755)
        return work / "asked"

    monkeypatch.setenv("PATH", f"{work}/bin:{os.environ['PATH']}")
    return program


def _stopped_work(number):
    """Work that is told to stop by this signal each time, and a list with an item for each time."""
    times = []

    def work():
        times.append(number)
        raise Stopped(number)

    return work, times


def test_a_task_near_its_limit_asks_for_the_queue_until_its_count_is_full(
    run, scontrol, monkeypatch
):
    asked = scontrol("exit 0")
    for name, value in TASK.items():
        monkeypatch.setenv(name, value)
    for n in range(3):
        work, times = _stopped_work(signal.SIGUSR1)
        said = []
        with pytest.raises(Stopped):
            with_requeues(work, run, "extract", 2, said.append)
        assert len(times) == 1
        if n < 2:
            assert said == [f"time limit near: back in the queue, requeue {n + 1} of at most 2"]
    assert said == [
        "time limit near: was requeued 2 times already, the limit of the profile; "
        f"`vsp resume --run {run.name}` continues"
    ]
    assert asked.read_text().splitlines() == ["requeue 7_3"] * 2
    assert n_requeues(run, "extract", "7_3") == 2 and n_requeues(run, "extract", "7_4") == 0


@pytest.mark.parametrize(
    ("number", "limit"), [(signal.SIGTERM, 5), (signal.SIGINT, 5), (signal.SIGUSR1, 0)]
)
def test_another_signal_or_no_wish_for_it_requeues_nothing(
    run, scontrol, monkeypatch, number, limit
):
    asked = scontrol("exit 0")
    monkeypatch.setenv("SLURM_JOB_ID", "9")
    work, times = _stopped_work(number)
    with pytest.raises(Stopped):
        with_requeues(work, run, "extract", limit, print)
    assert len(times) == 1 and not asked.exists() and not (run.folder / "requeues").exists()


def test_a_refusal_of_the_batch_system_is_said_with_what_to_type(run, scontrol, monkeypatch):
    scontrol("echo 'Job is not requeueable' >&2; exit 1")
    monkeypatch.setenv("SLURM_JOB_ID", "9")
    said = []
    with pytest.raises(Stopped):
        with_requeues(_stopped_work(signal.SIGUSR1)[0], run, "probe", 3, said.append)
    assert said == [
        "time limit near: cannot be requeued (scontrol: Job is not requeueable); "
        f"`vsp resume --run {run.name}` continues"
    ]


def test_without_a_queue_the_work_starts_again_at_once(run):
    work, times = _stopped_work(signal.SIGUSR1)
    said = []
    with pytest.raises(Stopped):
        with_requeues(work, run, "extract", 2, said.append)
    assert len(times) == 3  # the first start and two more
    assert said[1] == "time limit near: starts again, requeue 2 of at most 2"


def test_a_local_extraction_that_is_told_to_stop_finishes(plan_fake, work):
    run = plan_fake(batch_size=1, options={"pause": 0.03})
    command = [sys.executable, "-m", "vsp", "extract", "--requeue", "1"]
    process = subprocess.Popen(command, cwd=work, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not any(ledger.n_done > 2 for ledger in run.ledgers()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGUSR1)
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 0, said
    assert "starts again, requeue 1 of at most 1" in said and "96 rows done" in said
    assert [life.ended for life in run.ledgers()[0].lives] == ["stopped by SIGUSR1", "finished"]


def test_the_profile_says_which_tasks_are_requeued_and_how_often(plan_fake):
    run = plan_fake()

    def words(**values):
        return {job.stage: job for job in chain(run, parse(Profile, values, "p"), probe_tasks=2)}

    plain = words(time="60")
    assert not any("--requeue" in job.command for job in plain.values())
    jobs = words(time="60", requeue=True, max_requeues=3, cpu={"time": "30"})
    again = {stage for stage, job in jobs.items() if "--requeue" in job.command}
    assert again == {"extract", "probe-parts", "probe"}  # a verification would start over
    assert jobs["extract"].command[-3:] == ("--requeue", "3", "--shard")
    assert {stage for stage, job in jobs.items() if job.signal_seconds} == again
    assert "--requeue" not in words(time="60", requeue=True)["probe"].command  # is not warned
    assert words(time="60", requeue=True)["extract"].command[-2] == "10"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"requeue": True}, "requeue needs `time`"),
        ({"time": "60", "requeue": True, "no_requeue": True}, "exclude each other"),
        ({"max_requeues": 3}, "max_requeues has no effect without requeue: true"),
        ({"cpu": {"requeue": True}}, "write it above `cpu`"),
        ({"time": "60", "requeue": True, "max_requeues": 0}, "max_requeues 0"),
    ],
)
def test_a_wish_for_requeues_that_cannot_work_is_refused(values, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        parse(Profile, values, "p.yaml")


def test_the_local_scheduler_has_no_queue_to_put_a_task_into():
    assert scheduler_of(Profile(scheduler="local")).requeue("") is False


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    assert not NO_SLURM, f"CI needs a Slurm: {NO_SLURM}"
    with (
        pytest.MonkeyPatch.context() as patch,
        rig.Cluster(tmp_path_factory.mktemp("slurm"), nodes=2) as cluster,
    ):
        patch.setenv("SLURM_CONF", cluster.environment["SLURM_CONF"])
        patch.setenv("OMP_NUM_THREADS", "1")
        yield cluster


def _until(ready, what, run, seconds=120):
    deadline = time.monotonic() + seconds
    while not ready():
        logs = [path.read_text() for path in sorted((run.folder / "logs").glob("*.log"))]
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}: {logs}"
        time.sleep(0.3)


@on_slurm
def test_a_chain_outlives_the_time_limit_of_its_extraction(cluster, work, plan_fake):
    """Slurm checks limits twice a minute, so the task is slow enough to be still at work then."""
    run = plan_fake(limit=12, batch_size=1, options={"pause": 2.8})
    whole = plan_fake(limit=12, batch_size=1, options={})
    extract(whole, whole.shards)
    work.joinpath("long.yaml").write_text(
        "time: '60'\nsignal_seconds: 600\nrequeue: true\nmax_requeues: 2\ncpu: {cpus_per_task: 1}\n"
    )
    stages = ("--stages", "extract,verify", "--profile", "long.yaml")
    answer = run_here(("submit", "--run", run.name, *stages), work)
    assert answer.returncode == 0, answer.stderr
    (extraction,) = re.findall(r"^extract +(\d+)", answer.stdout, re.MULTILINE)
    _until(lambda: run.ledgers()[0].n_done > 0, "a row", run)
    cluster.run("scontrol", "update", f"jobid={extraction}", "endtime=now+500")
    _until(lambda: n_requeues(run, "extract", f"{extraction}_0") == 1, "the warning", run)
    _until(lambda: run.ledgers()[0].lives[0].ended, "the end of the first start", run)

    def page():
        return json.loads(run_here(("status", "--run", run.name, "--json"), work).stdout)

    _until(lambda: page()["shards"][0]["state"] == "queued", "the queue", run)
    found = page()
    assert found["shards"][0]["why"] == (
        "time limit near: ended its batch; requeued 1 time, waits for its start time"
    )
    assert [(stage["stage"], stage["state"]) for stage in found["stages"][:2]] == [
        ("extract", "queued"),
        ("verify", "queued"),  # it still waits for the same job
    ]
    assert found["stages"][1]["why"] == "waits for an earlier stage"
    assert found["next"] == [f"vsp status --run {run.name} --watch    shows when it ends"]

    def ended():
        cluster.hurry(extraction)
        return not any(task.active for task in task_states(run, Slurm(), ended=False).tasks)

    _until(ended, "the end of the chain", run)
    states = {stage["stage"]: stage["state"] for stage in page()["stages"]}
    assert states == {"extract": "done", "verify": "done", "probe": "not started",
                      "report": "not started"}  # fmt: skip
    lives = Run.open(run.folder).ledgers()[0].lives
    assert [(life.job, life.ended) for life in lives] == [
        (f"{extraction}_0", "stopped by SIGUSR1"),
        (f"{extraction}_0", "finished"),
    ]
    bytes_of = [one.store.path.read_bytes()[HEADER_BYTES:] for one in (run, whole)]
    assert bytes_of[0] == bytes_of[1]


def test_the_script_of_a_task_tells_slurm_to_warn_it(plan_fake):
    job = chain(plan_fake(), parse(Profile, {"time": "60", "requeue": True}, "p"))[0]
    assert isinstance(job, Job)
    script = Slurm().script(job)
    assert re.search(r"^#SBATCH --signal[= ]+B:USR1@120$", script, re.MULTILINE)
    assert re.search(r"^#SBATCH --requeue *$", script, re.MULTILINE)
    assert '--requeue 10 --shard "$task"' in script
