"""The chain of stages: on a real Slurm with accounting, and without a batch system."""

import json
import os
import re
import subprocess
import time
from datetime import UTC, datetime, timedelta

import pytest
from helpers import rig
from helpers.commands import run_here

from vsp.cluster.contract import After, Job, Query
from vsp.cluster.jobs import chain, job_owner, scheduler_of, task_states
from vsp.cluster.slurm import Slurm
from vsp.cluster.submitted import submissions
from vsp.config import Profile, Resources
from vsp.storage.journal import Journal
from vsp.storage.run import Run

NO_SLURM = rig.why_not()
NO_ACCOUNTING = rig.why_not(accounting=True)
IN_CI = os.environ.get("CI") == "true"
on_slurm = pytest.mark.skipif(bool(NO_SLURM) and not IN_CI, reason=f"no Slurm: {NO_SLURM}")

# One job for each task, submitted first: some of them take Slurm half a minute.
# The command says which scheduler profile it uses.
PROFILE_NOTE = "note: using jobs/slurm.yaml\n"
QUICK = ("--permutations", 0, "--controls", 0, "--no-curve", "--no-random", "--no-words")
ZOO = {
    "COMPLETED": ("true",),
    "FAILED": ("bash", "-c", "exit 3"),
    "TIMEOUT": ("sleep", "600"),
    "RUNNING": ("sleep", "600"),
    "PENDING": ("true",),
    "CANCELLED": ("sleep", "600"),
}


def _zoo_job(folder, stage, command, **changes):
    return Job(stage, f"zoo-{stage}", "zoo", command, folder, **changes)


def _send(job, folder, after=After(), tasks=None):  # noqa: B008 - frozen
    script = folder / f"{job.stage}.sh"
    script.write_text(Slurm().script(job))
    return [Slurm().send(call, after).job for call in Slurm().calls(job, script, tasks)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    assert not NO_SLURM, f"CI needs a Slurm: {NO_SLURM}"
    assert not (IN_CI and NO_ACCOUNTING), f"CI needs its accounting: {NO_ACCOUNTING}"
    folder = tmp_path_factory.mktemp("slurm")
    with (
        pytest.MonkeyPatch.context() as patch,
        rig.Cluster(folder, max_array_size=5, accounting=not NO_ACCOUNTING) as cluster,
    ):
        patch.setenv("SLURM_CONF", cluster.environment["SLURM_CONF"])
        yield cluster


@pytest.fixture(scope="module")
def zoo(cluster, tmp_path_factory):
    """State → number of a job that reaches this state, and the folder of the logs."""
    folder = tmp_path_factory.mktemp("zoo")
    jobs = {}
    for state, command in ZOO.items():
        job = _zoo_job(folder, state, command, resources=Resources(time="60"))
        after = After(ok=(jobs["RUNNING"],)) if state == "PENDING" else After()
        (jobs[state],) = _send(job, folder, after)
    warned = ("bash", "-c", "trap 'echo told; exit 138' USR1; while :; do sleep 0.2; done")
    limit = Resources(time="5")
    job = _zoo_job(folder, "warned", warned, resources=limit, signal_seconds=290, n_tasks=1)
    (jobs["warned"],) = _send(job, folder)
    array = ("bash", "-c", 'echo "task $1"; sleep 600', "x")
    job = _zoo_job(folder, "array", array, n_tasks=12)
    jobs["array"] = _send(job, folder, tasks=[11])[0]
    _until(lambda: _zoo_states().keys() >= {"CANCELLED", "array"}, "the zoo")
    _until(lambda: _zoo_states()["TIMEOUT"].state == "RUNNING", "a job to time out")
    cluster.run("scancel", jobs["CANCELLED"])
    # Slurm sets time limits in minutes, but `scontrol` accepts any end time.
    cluster.run("scontrol", "update", f"jobid={jobs['TIMEOUT']}", "endtime=now+1")
    yield jobs, folder
    cluster.run("scancel", "--user=root")


@pytest.fixture
def place(tmp_path):
    folder = tmp_path / rig.FOLDER
    (folder / "jobs").mkdir(parents=True)
    # The cluster has sixteen slots, but the machine has two cores.
    (folder / "jobs/slurm.yaml").write_text("time: '10'\ncpu: {cpus_per_task: 1}\n")
    return folder


def _zoo_states(**changes):
    stages = {f"zoo-{stage}": stage for stage in (*ZOO, "warned", "array")}
    query = Query("zoo", stages, 12, datetime.now(UTC) - timedelta(hours=6), **changes)
    states = Slurm().states(query)
    assert states.problem == ""
    return {task.stage: task for task in states.tasks}


def _shard(stage, **changes):
    found = _zoo_states(**changes)
    return found[stage].shard if stage in found else "not there"


def _until(ready, what, seconds=90):
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.3)


def _vsp(place, *arguments, code=0):
    answer = run_here(arguments, place)
    assert answer.returncode == code, answer.stderr + answer.stdout
    if code == 0:
        return answer.stdout
    lines = answer.stderr.splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("note: run r (newest, planned "))


def _plan(place, spatial, shards=12):
    _vsp(place, "plan", "--model", "fake", "--dataset", spatial, "--shards", shards,
         "--option", "hidden_size=1024", "--option", "n_layers=2", "--run", "r")  # fmt: skip
    return Run.open(place / "scratch/r")


def _break_task(place, task):
    """Write a profile with which only that array task fails, with exit code 7."""
    site = place / "site/sitecustomize.py"
    site.parent.mkdir()
    site.write_text(
        f"import os\nif os.environ.get('SLURM_ARRAY_TASK_ID') == '{task}':\n"
        "    os.write(2, b'broken')\n    os._exit(7)\n"
    )
    environment = json.dumps({"PYTHONPATH": str(site.parent)})
    (place / "jobs/slurm.yaml").write_text(
        f"environment: {environment}\ncpu: {{cpus_per_task: 1}}\n"
    )


def _table(answer):
    """Stage → job numbers, from the output of `vsp submit`."""
    found = {}
    for line in answer.splitlines():
        row = re.match(r"(extract|verify|probe-parts|probe|report) +(\d+) ", f"{line} ")
        if row:
            found.setdefault(row[1], []).append(row[2])
    return found


def _ended(cluster, run):
    """Wait until all jobs of a run have ended; return stage → states of its tasks."""
    _until(
        lambda: not any(task.active for task in task_states(run, Slurm(), ended=False).tasks),
        f"the end of {run.name}",
        150,
    )
    found = {}
    for task in task_states(run, Slurm(), run.ledgers()).tasks:
        found.setdefault(task.stage, set()).add(task.state)
    return found


def _logs(run):
    return "\n".join(f"{p.name}: {p.read_text()}" for p in sorted((run.folder / "logs").iterdir()))


def _queue(cluster, *options):
    return cluster.run("squeue", "--noheader", "--array", *options).splitlines()


@on_slurm
def test_one_command_runs_every_stage_to_the_report_also_beyond_maxarraysize(
    zoo, cluster, place, spatial
):
    run = _plan(place, spatial)
    answer = _vsp(place, "submit", "--probe-tasks", 2)
    jobs = _table(answer)
    assert {stage: len(found) for stage, found in jobs.items()} == {
        "extract": 3, "verify": 1, "probe-parts": 1, "probe": 1, "report": 1,
    }  # fmt: skip
    rows = [line.split(None, 3) for line in answer.splitlines()]
    assert rows[0] == ["stage", "job", "tasks", "waits for"]
    assert [row[2] for row in rows[1:4]] == ["0-4", "5-9", "10-11"]
    assert rows[4][3] == ", ".join(jobs["extract"]) and rows[7][3] == jobs["probe"][0]
    assert answer.splitlines()[-1] == f"logs in {run.folder.absolute() / 'logs'}"
    done = {"COMPLETED"}
    assert _ended(cluster, run) == dict.fromkeys(jobs, done), _logs(run)
    assert "The figure to cite: layers selected" in _vsp(place, "report")
    assert (
        "The figure to cite: layers selected"
        in (run.folder / f"logs/report-{jobs['report'][0]}.log").read_text()
    )
    assert [ledger.n_missing for ledger in run.ledgers()] == [0] * 12
    tasks = task_states(run, Slurm()).latest("extract")
    assert {n: task.job for n, task in tasks.items()} == {
        **{i: f"{jobs['extract'][i // 5]}_{i % 5}" for i in range(12)}
    }
    page = json.loads(_vsp(place, "status", "--json"))
    shown = {stage["stage"]: (stage["state"], stage["jobs"]) for stage in page["stages"]}
    assert shown == {stage: ("done", found) for stage, found in jobs.items()}
    assert all(stage["since"] for stage in page["stages"])
    finished = (
        "run r is finished: 96 rows done, probes fitted; `vsp report --run r` shows the results"
    )
    assert _vsp(place, "resume").startswith(finished)
    assert _vsp(place, "submit").startswith(finished)  # and exit code 0
    assert task_states(run, Slurm(), ended=False).tasks == ()
    dry = _vsp(place, "submit", "--dry-run")
    assert "extract=$(sbatch" in dry and "probe=$(sbatch" in dry


@on_slurm
def test_behind_a_task_that_failed_no_stage_starts_and_none_stays_in_the_queue(
    cluster, place, spatial
):
    run = _plan(place, spatial, 3)
    _break_task(place, 1)
    _vsp(place, "submit", "--", *QUICK)
    assert _ended(cluster, run) == {
        "extract": {"COMPLETED", "FAILED"}, "verify": {"CANCELLED"}, "probe": {"CANCELLED"},
        "report": {"CANCELLED"},
    }  # fmt: skip
    assert not [line for line in _queue(cluster) if "-r " in line]
    failed = task_states(run, Slurm(), run.ledgers()).latest("extract")[1]
    assert (failed.state, failed.exit_code, failed.reason) == ("FAILED", "7:0", "NonZeroExitCode")
    assert f"extract-{failed.job}.log: broken" in _logs(run)
    stages = json.loads(_vsp(place, "status", "--json"))["stages"]
    assert [(stage["stage"], stage["state"]) for stage in stages] == [
        ("extract", "stopped"), ("verify", "cancelled"), ("probe", "cancelled"), ("report", "cancelled"),
    ]  # fmt: skip
    assert stages[0]["why"] == "exit code 7, before it wrote anything"
    assert {stage["why"] for stage in stages[1:]} == {"an earlier stage did not succeed"}
    page = _vsp(place, "status")
    assert "next: vsp resume --run r    continues shard 1\n" in page
    assert "or:   vsp logs --run r    shows the ends of the logs\n" in page


@on_slurm
def test_resume_goes_on_with_profile_and_options_of_the_last_submission(cluster, place, spatial):
    run = _plan(place, spatial, 3)
    (place / "jobs/held.yaml").write_text("hold: true\ncpu: {cpus_per_task: 1, hold: true}\n")
    sent = ("--profile", "jobs/held.yaml", "--stages", "extract,probe", "--after", "any")
    jobs = _table(_vsp(place, "submit", *sent))
    cluster.run("scancel", *jobs["extract"], *jobs["probe"])
    _until(lambda: not _queue(cluster, f"--name=vsp-{run.name}"), "the end of the held jobs")
    answer = run_here(("resume",), place)
    assert answer.returncode == 0, answer.stderr
    reused = (
        "with --profile jobs/held.yaml --stages extract,probe --after any, as in the submission of"
    )
    assert f"note: {reused} 20" in answer.stderr
    again = _table(answer.stdout)
    assert again.keys() == {"extract", "probe"}
    assert all("JobHeldUser" in line for line in _queue(cluster, "--name=vsp-r", "--format=%r"))
    cluster.run("scancel", *again["extract"], *again["probe"])
    _until(lambda: not _queue(cluster, f"--name=vsp-{run.name}"), "the end of the held jobs")
    other = _vsp(place, "resume", "--profile", "jobs/slurm.yaml", "--after", "ok", "--dry-run")
    assert "--hold" not in other and "report=" not in other
    (place / "jobs/held.yaml").unlink()
    message = _vsp(place, "resume", code=1)
    assert "jobs/held.yaml: no such file" in message and "--profile names another one" in message
    sent = submissions(run)
    assert [one.jobs for one in sent] == [
        {stage: tuple(found) for stage, found in one.items()} for one in (jobs, again)
    ]


@on_slurm
def test_a_second_submission_probes_another_setting_in_the_queue(cluster, place, spatial):
    setting = "mass-mean-permutations-0-controls-0-no-curve-no-random-no-words"
    run = _plan(place, spatial, 1)
    _vsp(place, "extract")
    _vsp(place, "probe", "--n-jobs", 1, *QUICK)
    jobs = _table(_vsp(place, "submit", "--", "--probe", "mass-mean", *QUICK))
    assert jobs.keys() == {"verify", "probe", "report"}
    _until(lambda: not _queue(cluster, f"--name=report-{run.name}"), "the end of the report")
    stages = {one["stage"]: one for one in json.loads(_vsp(place, "status", "--json"))["stages"]}
    for stage in ("probe", "report"):
        assert (stages[stage]["state"], stages[stage]["settings"]) == ("done", [setting])
    assert (run.results / setting / "report.txt").exists()
    assert f"page: {setting}/report.txt" in (run.results / "report.txt").read_text()
    again = _vsp(place, "submit", "--", "--probe", "mass-mean", *QUICK)
    assert f"probes {setting} fitted" in again


@on_slurm
def test_after_any_the_rest_goes_on_without_what_is_missing_and_resume_sends_just_that(
    cluster, place, spatial
):
    run = _plan(place, spatial, 3)
    _break_task(place, 2)
    _vsp(place, "submit", "--after", "any", "--", *QUICK)
    found = _ended(cluster, run)
    assert found["extract"] == {"COMPLETED", "FAILED"}, _logs(run)
    assert found["probe"] == found["report"] == {"COMPLETED"}, _logs(run)
    n_missing = run.ledgers()[2].n_missing
    assert n_missing == run.shards[2].stop - run.shards[2].start
    assert f"left out 0 failed and {n_missing} missing rows" in _logs(run)

    (place / "jobs/slurm.yaml").write_text("throttle: 1\ncpu: {cpus_per_task: 1}\n")
    dry = _vsp(place, "resume", "--dry-run")
    assert "extract=$(sbatch --parsable --array=2%1 scratch/r/jobs/extract.sh)" in dry
    again = _table(_vsp(place, "resume", "--stages", "extract,probe"))
    assert again.keys() == {"extract", "probe"}
    assert _ended(cluster, run)["probe"] == {"COMPLETED"}
    latest = task_states(run, Slurm(), run.ledgers()).latest("extract")
    assert latest[2].job == f"{again['extract'][0]}_2" and latest[2].state == "COMPLETED"
    assert [ledger.n_missing for ledger in run.ledgers()] == [0, 0, 0]


@on_slurm
def test_resume_sends_what_is_unfinished_and_waits_for_what_others_sent(cluster, place, spatial):
    run = _plan(place, spatial)
    finished = [i for i in range(12) if i not in (0, 3, 7, 8, 9)]
    _vsp(place, "extract", *(word for i in finished for word in ("--shard", i)))
    by_hand = cluster.sbatch("--hold", "--array=3", "jobs/extract_array.sh", cwd=place)
    # Held, because Slurm forgets a dependency on a task that has ended.
    (place / "jobs/slurm.yaml").write_text("hold: true\ncpu: {cpus_per_task: 1}\n")
    answer = _vsp(place, "resume", "--stages", "extract,verify")
    assert f"not submitted again: shard 3 (job {by_hand}) is queued or running" in answer
    rows = [line.split(None, 3) for line in answer.splitlines()]
    assert [row[2] for row in rows if row[0] == "extract"] == ["0", "7-9"]
    jobs = _table(answer)
    (dependency,) = _queue(cluster, f"--jobs={jobs['verify'][0]}", "--Format=Dependency:|")
    for job in (f"{by_hand}_3", *(f"{job}_" for job in jobs["extract"])):
        assert f"afterok:{job}" in dependency
    message = _vsp(place, "submit", code=1)
    assert f"job {by_hand}" in message and "vsp resume" not in message  # no other shard is left
    assert "`vsp status --run r --watch` shows when it ends" in message
    assert len(message.removeprefix(PROFILE_NOTE).splitlines()) == 1
    for job in (by_hand, *jobs["extract"]):
        cluster.run("scontrol", "release", str(job))
    assert _ended(cluster, run) == {"extract": {"COMPLETED"}, "verify": {"COMPLETED"}}, _logs(run)


@on_slurm
def test_a_later_chain_waits_for_the_stages_of_an_earlier_one(cluster, place, spatial):
    _plan(place, spatial, 1)
    _vsp(place, "extract")
    held = cluster.sbatch("--hold", "--wrap=true", "--job-name=probe-r",
                          f"--comment=vsp:{job_owner(Run.open(place / 'scratch/r'))}:probe:0",
                          "--output=/dev/null", cwd=place)  # fmt: skip
    answer = _vsp(place, "submit", "--stages", "verify,probe", "--dry-run")
    assert f"verify=$(sbatch --parsable --dependency=afterany:{held} " in answer
    answer = _vsp(place, "submit", "--stages", "report", "--dry-run")
    assert f"report=$(sbatch --parsable --dependency=afterok:{held} " in answer
    cluster.run("scancel", str(held))


@on_slurm
def test_a_refusal_is_in_slurms_words_and_says_what_was_sent_already(cluster, place, spatial):
    run = _plan(place, spatial, 2)
    profile = place / "jobs/slurm.yaml"
    profile.write_text("partition: nope\n")
    assert _vsp(place, "submit", code=1) == (
        f"{PROFILE_NOTE}vsp: extract: sbatch: invalid partition specified: nope; "
        "Batch job submission failed: Invalid partition name specified; nothing was submitted\n"
    )
    profile.write_text("cpu: {partition: nope}\n")
    message = _vsp(place, "submit", code=1)
    assert len(message.removeprefix(PROFILE_NOTE).splitlines()) == 1
    assert "invalid partition specified: nope" in message
    sent = re.search(
        r"submitted already: extract (\d+); `vsp submit --run r --stages (\S+)` submits", message
    )
    assert sent[2] == "verify,probe,report"
    assert {task.job.partition("_")[0] for task in task_states(run, Slurm()).tasks} == {sent[1]}
    cluster.run("scancel", sent[1])


@on_slurm
def test_a_dry_run_prints_what_would_be_sent_and_sends_and_writes_nothing(cluster, place, spatial):
    run = _plan(place, spatial)
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*")}
    answer = _vsp(place, "submit", "--dry-run", "--stages", "extract,probe")
    assert {path: path.stat().st_mtime_ns for path in place.rglob("*")} == before
    assert task_states(run, Slurm()).tasks == ()
    commands = [line for line in answer.splitlines() if "$(sbatch" in line]
    comment = f"--comment=vsp:{job_owner(run)}:extract"
    assert commands == [
        "extract=$(sbatch --parsable scratch/r/jobs/extract.sh)",
        f"extract1=$(sbatch --parsable --array=0-4 {comment}:5 scratch/r/jobs/extract.sh 5)",
        f"extract2=$(sbatch --parsable --array=0-1 {comment}:10 scratch/r/jobs/extract.sh 10)",
        "probe=$(sbatch --parsable --dependency=afterok:$extract:$extract1:$extract2 "
        "--kill-on-invalid-dep=yes scratch/r/jobs/probe.sh)",
    ]
    assert "# scratch/r/jobs/extract.sh\n#!/bin/bash\n" in answer
    # The printed commands work in a shell.
    _vsp(place, "submit", "--stages", "extract,probe")  # writes the scripts
    cluster.run("scancel", "--name=vsp-r,probe-r")
    typed = "\n".join([*commands, "echo $probe; scancel $extract $extract1 $extract2 $probe"])
    done = subprocess.run(["bash", "-ec", typed], cwd=place, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.strip().isdecimal(), done.stderr


@on_slurm
def test_each_state_of_a_task_is_seen_as_what_it_is(zoo, cluster):
    jobs, _ = zoo
    _until(lambda: _zoo_states()["TIMEOUT"].state == "TIMEOUT", "a job to time out")
    found = _zoo_states()
    assert {stage: found[stage].state for stage in ZOO} == {stage: stage for stage in ZOO}
    assert {stage: found[stage].job for stage in ZOO} == {stage: jobs[stage] for stage in ZOO}
    assert {stage for stage in ZOO if found[stage].active} == {"RUNNING", "PENDING"}
    assert found["FAILED"].exit_code == "3:0" and found["COMPLETED"].exit_code is None
    assert found["PENDING"].reason == "Dependency" and found["PENDING"].exit_code is None
    assert found["RUNNING"].node.startswith("n") and found["RUNNING"].restarts == 0
    assert set(_zoo_states(ended=False)) == {"RUNNING", "PENDING", "array"}


@on_slurm
def test_a_task_that_is_sent_again_by_slurm_keeps_its_number(zoo, cluster):
    jobs, folder = zoo
    job = f"{jobs['array']}_1"
    log = folder / f"array-{job}.log"
    _until(lambda: log.exists() and log.read_text() == "task 11\n", "the first life")
    cluster.run("scontrol", "requeue", job)
    _until(lambda: _zoo_states()["array"].state == "PENDING", "the task to be queued again")

    def lived_twice():
        cluster.hurry(job)
        return log.read_text().count("task 11\n") == 2

    _until(lived_twice, "the second life")
    found = _zoo_states()["array"]
    assert (found.job, found.shard, found.restarts) == (job, 11, 1)


@on_slurm
def test_a_task_is_told_before_its_time_is_over(zoo, cluster):
    jobs, folder = zoo
    _until(lambda: not _zoo_states()["warned"].active, "the signal")
    assert (folder / f"warned-{jobs['warned']}_0.log").read_text().endswith("told\n")
    assert (_zoo_states()["warned"].state, _zoo_states()["warned"].exit_code) == ("FAILED", "138:0")


@on_slurm
@pytest.mark.skipif(bool(NO_ACCOUNTING), reason=f"no accounting: {NO_ACCOUNTING}")
def test_accounting_tells_what_the_controller_forgot(zoo, cluster, monkeypatch, tmp_path):
    jobs, _ = zoo
    empty = tmp_path / "bin"
    empty.mkdir()
    (empty / "squeue").write_text("#!/bin/bash\n")  # remembers nothing
    (empty / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{empty}:{os.environ['PATH']}")
    _until(lambda: _zoo_states().get("TIMEOUT", None) is not None, "accounting")
    _until(lambda: _zoo_states()["TIMEOUT"].state == "TIMEOUT", "accounting")
    found = _zoo_states()
    ended = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT")
    assert {s: found[s].state for s in ended} == {s: s for s in ended}
    assert found["FAILED"].exit_code == "3:0" and found["FAILED"].job == jobs["FAILED"]
    # Without a comment, the shard follows from another task of the same array.
    cluster.run("scancel", jobs["array"])
    for known, shard in (({}, None), ({jobs["array"]: 10}, 11)):
        _until(lambda k=known, s=shard: _shard("array", jobs=k) == s, f"shard {shard}")


@on_slurm
def test_the_states_of_a_thousand_tasks_take_less_than_a_second(cluster, tmp_path):
    job = Job("extract", "vsp-many", "many", ("true",), tmp_path, n_tasks=1000,
              resources=Resources(cpus_per_task=2))  # fmt: skip
    script = tmp_path / "s.sh"
    script.write_text(Slurm().script(job))
    slurm = Slurm()
    for call in slurm.calls(job, script):
        subprocess.run([*call.command[:1], "--hold", *call.command[1:]], check=True,
                       capture_output=True)  # fmt: skip
    before = os.times()
    states = slurm.states(Query("many", {"vsp-many": "extract"}, 1000, datetime.now(UTC)))
    # CPU time of this process and of the commands that it ran, which other tests do not lengthen.
    seconds = sum(os.times()[:4]) - sum(before[:4])
    cluster.run("scancel", "--name=vsp-many")
    assert sorted(task.shard for task in states.tasks) == list(range(1000))
    assert seconds < 1


LOCAL = "scheduler: local\ncpu: {cpus_per_task: 1}\n"


def test_without_a_batch_system_the_stages_run_here_in_turn(place, spatial):
    run = _plan(place, spatial, 2)
    (place / "jobs/slurm.yaml").write_text(LOCAL)
    assert "bash scratch/r/jobs/extract.sh\n" in _vsp(place, "submit", "--dry-run")
    answer = _vsp(place, "submit", "--probe-tasks", 2, "--", *QUICK)
    said = [line for line in answer.splitlines() if line.endswith(": done")]
    assert said == ["extract: done", "verify: done", "probe-parts: done", "probe: done",
                    "report: done"]  # fmt: skip
    assert "The figure to cite: layers selected" in answer and run.results.exists()


def test_without_a_batch_system_the_first_stage_that_fails_ends_the_chain(place, spatial):
    run = _plan(place, spatial, 2)
    (place / "jobs/slurm.yaml").write_text(LOCAL + "environment: {HF_HOME: x}\n")
    manifest = run.folder / "manifest.jsonl"
    manifest.write_text(manifest.read_text() + "\n")
    message = _vsp(place, "submit", code=1)
    assert message.splitlines()[-1].startswith(
        "vsp: extract: exit code 1; the reason is printed above"
    )
    assert "manifest.jsonl: was changed" in message and "verify" not in message


def test_without_a_batch_system_after_any_goes_on_and_fails_at_the_end(place, spatial):
    run = _plan(place, spatial, 2)
    (place / "jobs/slurm.yaml").write_text(LOCAL)
    next((run.folder / "jobs").iterdir()).unlink()
    _vsp(place, "extract", "--shard", 0)
    profile = place / "jobs/slurm.yaml"
    environment = json.dumps({"PYTHONPATH": str(place / "here")})
    profile.write_text(f"{LOCAL}environment: {environment}\n")
    (place / "here").mkdir()
    code = "import os, sys; os._exit(4 + ('report' in sys.orig_argv))\n"
    (place / "here/sitecustomize.py").write_text(code)
    message = _vsp(place, "submit", "--after", "any", "--stages", "extract,report", code=1)
    assert (
        message
        == f"{PROFILE_NOTE}note: the profile sets PYTHONPATH: this can decide which code the tasks run\n"
        "vsp: extract: exit code 4, report: exit code 5; the reasons are printed above\n"
    )


def test_without_a_batch_system_resume_runs_what_is_missing(place, spatial):
    run = _plan(place, spatial, 3)
    (place / "jobs/slurm.yaml").write_text(LOCAL)
    _vsp(place, "extract", "--shard", 1)
    assert "bash scratch/r/jobs/extract.sh 0 2\n" in _vsp(place, "resume", "--dry-run")
    assert "verify: done" in _vsp(place, "resume", "--stages", "extract,verify")
    assert [len(ledger.lives) for ledger in run.ledgers()] == [1, 1, 1]
    assert "no row is missing" in _vsp(place, "resume")


def test_where_no_batch_system_is_submit_says_so_in_a_line(place, spatial, monkeypatch):
    _plan(place, spatial, 1)
    monkeypatch.setenv("PATH", str(place))
    message = _vsp(place, "submit", code=1)
    assert message == (
        f"{PROFILE_NOTE}vsp: extract: sbatch: not found on this machine; submit from a machine with Slurm, "
        "or set `scheduler: local` in the profile; nothing was submitted\n"
    )
    assert (
        "note: squeue: not found on this machine; a shard that is queued already may be submitted twice"
        in _vsp(place, "resume", "--dry-run")
    )


@pytest.mark.parametrize("stages", ["verify,nope", "", "extract,,probe"])
def test_a_stage_that_is_none_is_refused(place, stages):
    assert "is not known; known: extract, verify, probe, effects, report" in _vsp(
        place, "submit", "--stages", stages, code=2
    )


def test_every_row_that_failed_is_sent_again_only_on_request(place, write_dataset):
    records = [
        {"id": str(i), "image_filename": f"{i}.png", "label": "ab"[i % 2], "prompt": "?"}
        for i in range(8)
    ]
    dataset = write_dataset(records)
    _vsp(place, "plan", "--model", "fake", "--dataset", dataset, "--run", "r")
    image = dataset / "images/3.png"
    picture = image.read_bytes()
    image.write_bytes(b"")
    _vsp(place, "extract")
    image.write_bytes(picture)
    (place / "jobs/slurm.yaml").write_text(LOCAL)
    assert _vsp(place, "resume").endswith(
        "run r: no row is missing, 1 row failed; mend the cause (see `vsp status --run r`), then `vsp "
        "resume --run r --retry-failed` extracts them again, or `vsp submit --run r --stages "
        "verify,probe,report --after any` submits the later stages without them\n"
    )
    assert "extract: done" in _vsp(place, "resume", "--retry-failed", "--stages", "extract")
    assert [ledger.n_failed for ledger in Run.open(place / "scratch/r").ledgers()] == [0]


def test_a_probe_that_would_refuse_failed_rows_is_not_submitted(place, write_dataset):
    records = [
        {"id": str(i), "image_filename": f"{i}.png", "label": "ab"[i % 2], "prompt": "?"}
        for i in range(8)
    ]
    dataset = write_dataset(records)
    _vsp(place, "plan", "--model", "fake", "--dataset", dataset, "--run", "r")
    run = Run.open(place / "scratch/r")
    with Journal(run.journals, run.plan.id, 0) as journal:
        journal.mark_failed(2, "its image is gone")
    (place / "jobs/slurm.yaml").write_text(LOCAL)
    answer = _vsp(place, "submit", "--dry-run")
    assert "probe and report are left out: 1 row failed" in answer
    assert "jobs/verify.sh" in answer and "jobs/probe.sh" not in answer
    assert "jobs/probe.sh" in _vsp(place, "submit", "--dry-run", "--after", "any")
    assert "jobs/probe.sh" in _vsp(place, "submit", "--dry-run", "--retry-failed")
    message = _vsp(place, "submit", "--dry-run", "--stages", "probe", code=1)
    assert "1 row failed, and the probe refuses such a run; --after any leaves them out" in message
    _vsp(place, "extract")
    assert "no row is missing, 1 row failed; mend the cause" in _vsp(place, "submit", code=1)
    message = _vsp(place, "submit", "--stages", "verify", "--retry-failed", code=1)
    assert "add extract to --stages" in message


def test_of_an_extracted_run_submit_sends_the_later_stages(place, spatial):
    run = _plan(place, spatial, 1)
    (place / "jobs/slurm.yaml").write_text(LOCAL)
    _vsp(place, "extract")
    answer = _vsp(place, "submit", "--dry-run")
    assert answer.startswith("# no row is missing, so the extraction is left out\n")
    assert "jobs/extract.sh" not in answer and "jobs/probe.sh" in answer
    _vsp(place, "verify")
    assert (run.folder / "verified.json").exists()
    assert "jobs/extract.sh" in _vsp(place, "submit", "--dry-run", "--stages", "extract,verify")


def test_a_record_of_submissions_that_is_damaged_is_one_line(place, spatial):
    run = _plan(place, spatial, 1)
    (place / "jobs/slurm.yaml").write_text(LOCAL)
    for text in ("{", "[1]", "[]x", '[{"time": "now"}]'):
        (run.folder / "submitted.json").write_text(text)
        message = _vsp(place, "resume", code=1)
        assert "submitted.json: is not a list of submissions; remove it" in message
        assert "submitted.json" in _vsp(place, "status")


def test_the_chain_probes_every_position_of_a_run(place, spatial):
    """The commands of its jobs are those that a user types."""
    for name, more in (("one", ()), ("two", ("--positions", "subject"))):
        _vsp(place, "plan", "--model", "fake", "--dataset", spatial, "--run", name, *more)
        run = Run.open(place / "scratch" / name)
        jobs = {job.stage: job for job in chain(run, Profile(), probe_tasks=2)}
        every = ("--position", "all") if more else ()
        assert jobs["probe"].command[-2:] == (every or ("--n-jobs", "1"))
        assert jobs["probe-parts"].command[-3:] == (*(every or ("--n-jobs", "1")), "--part")
        assert "--position" not in jobs["report"].command
    _vsp(place, "extract", "--run", "two")
    said = _vsp(place, "probe", "--run", "two", "--position", "all", "--n-jobs", 1, "--permutations", 0,
                "--controls", 0, "--no-curve", "--no-random", "--no-words", "--grid", 1, 2)  # fmt: skip
    assert re.findall(r"position (\w+):", said) == ["last", "subject"]
    assert "`vsp report --run two --position subject` shows it" in said
    for position in ("last", "subject"):
        page = json.loads(_vsp(place, "report", "--run", "two", "--position", position, "--json"))
        assert page["position"] == position


def test_the_profile_names_the_batch_system(place):
    assert type(scheduler_of(Profile(scheduler="local"))).__name__ == "Local"
    assert isinstance(scheduler_of(Profile()), Slurm)
