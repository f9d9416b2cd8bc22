import os
import shlex
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from vsp.cluster import SCHEDULERS
from vsp.cluster import slurm as slurm_module
from vsp.cluster.contract import After, Job, Query, States, TaskState
from vsp.cluster.jobs import chain, current_task, extract_job, task_states
from vsp.cluster.stages import STAGES, log_name
from vsp.config import Profile, Resources
from vsp.errors import SchedulerError
from vsp.storage.journal import Journal, TaskIdentity

NASTY = 'it\'s a "run" $HOME `x` &; #1'


def _job(n_tasks=3, logs="/l o/g", **changes):
    command = ("printf", "%s|", "--run", NASTY, "--shard")
    return Job("extract", "vsp-name", "abc", command, Path(logs), n_tasks=n_tasks, **changes)


def _slurm():
    return SCHEDULERS.load("slurm")()


def _run(script, *arguments, **environment):
    return subprocess.run(
        ["bash", "-c", script, "script", *arguments],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", **environment},
    )


def _directives(script):
    lines = [line[8:].strip() for line in script.splitlines() if line.startswith("#SBATCH ")]
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def _query(**changes):
    stages = {"vsp-name": "extract", "verify-name": "verify"}
    return Query("abc", stages, 3, datetime(2026, 1, 1, tzinfo=UTC), **changes)


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Put a program first on PATH, in place of a program of the batch system."""

    def make(name, script):
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/bash\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{path.parent}:/usr/bin:/bin")

    return make


@pytest.mark.parametrize("name", SCHEDULERS.names())
@pytest.mark.parametrize("n_tasks", [3, None])
def test_every_scheduler_writes_scripts_that_bash_accepts_and_can_send(name, n_tasks):
    scheduler = SCHEDULERS.load(name)()
    job = _job(n_tasks, environment={"A": NASTY})
    script = scheduler.script(job)
    assert script.startswith("#!/bin/bash\n") and script.endswith("\n")
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    for call in scheduler.calls(job, Path("jobs/x y.sh")):
        line = scheduler.line(call, After(ok=("1", "2_3"), ended=("4",)), "extract")
        assert "jobs/x y.sh" in call.command and "'jobs/x y.sh'" in line
        subprocess.run(["bash", "-n"], input=line, text=True, check=True)


@pytest.mark.parametrize("name", SCHEDULERS.names())
def test_every_scheduler_answers_for_states_where_no_batch_system_is(name, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    states = SCHEDULERS.load(name)().states(_query())
    assert states.tasks == () and "\n" not in states.problem


@pytest.mark.parametrize("name", SCHEDULERS.names())
def test_every_scheduler_covers_the_tasks_that_are_asked_for_and_no_other(name):
    scheduler = SCHEDULERS.load(name)()
    for tasks, expected in ((None, list(range(12))), ([7, 3, 8, 9], [3, 7, 8, 9])):
        calls = scheduler.calls(_job(12), Path("s.sh"), tasks)
        assert [task for call in calls for task in call.tasks] == expected


def test_the_array_index_is_the_shard_and_arguments_arrive_untouched():
    answer = _run(_slurm().script(_job()), SLURM_ARRAY_TASK_ID="2")
    assert answer.stdout == f"--run|{NASTY}|--shard|2|"


def test_a_later_submission_begins_at_its_first_task():
    answer = _run(_slurm().script(_job()), "1001", SLURM_ARRAY_TASK_ID="2")
    assert answer.stdout.endswith("|1003|")


def test_a_job_that_is_no_array_runs_its_command_once():
    answer = _run(_slurm().script(_job(None)))
    assert answer.stdout == f"--run|{NASTY}|--shard|"
    assert "--array" not in _directives(_slurm().script(_job(None)))


def test_a_part_of_the_layers_is_numbered_within_its_whole():
    for name, script in (("slurm", _slurm()), ("local", SCHEDULERS.load("local")())):
        answer = _run(script.script(_job(2, number="{}/2")), SLURM_ARRAY_TASK_ID="1")
        assert answer.stdout.endswith("|1/2|"), name


def test_without_an_array_the_script_refuses_to_run():
    answer = _run(_slurm().script(_job()))
    assert answer.returncode != 0 and "submit this script with sbatch" in answer.stderr


def test_the_local_script_runs_every_task_in_turn_or_those_that_are_named():
    script = SCHEDULERS.load("local")().script(_job())
    for arguments, tasks in (((), (0, 1, 2)), (("2", "0"), (2, 0))):
        answer = _run(script, *arguments)
        assert answer.stdout == "".join(f"--run|{NASTY}|--shard|{i}|" for i in tasks)


def test_in_the_local_script_a_failed_task_keeps_no_other_from_running_but_a_signal_ends_all():
    command = ("bash", "-c", 'echo -n "$1"; [ "$1" != 1 ] || exit "$CODE"', "x")
    script = SCHEDULERS.load("local")().script(Job("extract", "n", "i", command, Path(), n_tasks=3))
    for code, ran in ((3, "012"), (138, "01")):
        answer = _run(script, CODE=str(code))
        assert (answer.stdout, answer.returncode) == (ran, code)


def test_resources_become_directives_and_what_is_not_named_is_left_out():
    resources = Resources(
        partition="gpu", time="02:00:00", gres="gpu:1", mem="32G", cpus_per_task=8
    )
    found = _directives(_slurm().script(_job(resources=resources, throttle=4)))
    assert found["--partition"] == "gpu" and found["--gres"] == "gpu:1"
    assert found["--array"] == "0-2%4" and found["--cpus-per-task"] == "8"
    assert found["--time"] == "02:00:00" and found["--mem"] == "32G"
    assert "--account" not in found and "--qos" not in found and "--signal" not in found
    assert "--requeue" in found and found["--open-mode"] == "append"
    assert found["--comment"] == "vsp:abc:extract:0"


@pytest.mark.parametrize(
    ("values", "directives"),
    [
        ({"mem_per_cpu": 4000}, {"--mem-per-cpu": "4000"}),
        ({"gpus": "a100:2", "reservation": "r"}, {"--gpus": "a100:2", "--reservation": "r"}),
        ({"exclude": "n[1-3],n7"}, {"--exclude": "n[1-3],n7"}),
        ({"exclusive": True, "contiguous": False}, {"--exclusive": ""}),
        ({"exclusive": "user", "nice": -5}, {"--exclusive": "user", "--nice": "-5"}),
        ({"licenses": "a b#c's"}, {"--licenses": '"a b#c\\\'s"'}),
        ({"nodelist": None}, {}),
    ],
)
def test_every_option_of_sbatch_becomes_a_directive(values, directives):
    plain = _directives(_slurm().script(_job()))
    found = _directives(_slurm().script(_job(resources=Resources(**values))))
    assert found == plain | directives


def test_a_profile_turns_requeueing_off():
    found = _directives(_slurm().script(_job(resources=Resources(no_requeue=True))))
    assert "--no-requeue" in found and "--requeue" not in found


def test_the_commands_of_a_script_are_not_read_as_directives():
    environment = {"A": "\n#SBATCH --mem   1G\n"}
    assert environment["A"] in _slurm().script(_job(environment=environment))


@pytest.mark.parametrize(
    ("time", "warning", "signal"),
    [("02:00:00", 90, "B:USR1@90"), (None, 90, None), ("02:00:00", None, None)],
)
def test_a_signal_comes_before_a_time_limit_where_there_is_one_and_it_is_wanted(
    time, warning, signal
):
    script = _slurm().script(_job(resources=Resources(time=time), signal_seconds=warning))
    assert _directives(script).get("--signal") == signal


def test_modules_are_loaded_and_a_missing_one_stops_the_task():
    script = _slurm().script(_job(modules=("cuda/12.4",), environment={"A": NASTY}))
    assert "module load cuda/12.4 || exit 1" in script
    answer = _run(script, SLURM_ARRAY_TASK_ID="0")  # `module` does not exist here
    assert answer.returncode == 1 and not answer.stdout


def test_the_environment_reaches_the_worker():
    command = ("sh", "-c", 'printf %s "$A"')
    job = Job("extract", "n", "i", command, Path("/l"), n_tasks=1, environment={"A": NASTY})
    assert _run(_slurm().script(job), SLURM_ARRAY_TASK_ID="0").stdout == NASTY


@pytest.mark.parametrize(
    ("n_tasks", "arrays"),
    [(10, ["0-9"]), (11, ["0-9", "0"]), (25, ["0-9", "0-9", "0-4"])],
)
def test_more_tasks_than_an_array_holds_become_several_submissions(program, n_tasks, arrays):
    program("scontrol", "echo 'MaxArraySize            = 10'")
    slurm, job = _slurm(), _job(n_tasks, throttle=3)
    first, *later = [slurm.line(call, After()) for call in slurm.calls(job, Path("s.sh"))]
    assert first == "sbatch s.sh"
    assert _directives(slurm.script(job))["--array"] == f"{arrays[0]}%3"
    assert later == [
        f"sbatch --array={array}%3 --comment=vsp:abc:extract:{10 * k} s.sh {10 * k}"
        for k, array in enumerate(arrays[1:], start=1)
    ]


def test_some_shards_are_sent_by_their_numbers_in_each_array(program):
    program("scontrol", "echo 'MaxArraySize            = 10'")
    calls = _slurm().calls(_job(25), Path("s.sh"), [3, 7, 8, 9, 21])
    assert [call.command[1:] for call in calls] == [
        ("--array=3,7-9", "s.sh"),
        ("--array=1", "--comment=vsp:abc:extract:20", "s.sh", "20"),
    ]
    assert [call.tasks for call in calls] == [(3, 7, 8, 9), (21,)]


def test_tasks_that_are_asked_for_are_named_on_the_command_line_not_in_the_script():
    assert _slurm().calls(_job(2), Path("s.sh"), [0])[0].command == ("sbatch", "--array=0", "s.sh")


@pytest.mark.parametrize(
    ("after", "options"),
    [
        (After(), ""),
        (After(ok=("1", "2_3")), "--dependency=afterok:1:2_3 --kill-on-invalid-dep=yes "),
        (After(ended=("4",)), "--dependency=afterany:4 --kill-on-invalid-dep=yes "),
        (
            After(("$extract",), ("4",)),
            "--dependency=afterok:$extract,afterany:4 --kill-on-invalid-dep=yes ",
        ),
    ],
)
def test_what_a_submission_waits_for_is_on_its_command_line(after, options):
    call = _slurm().calls(_job(None), Path("s.sh"))[0]
    assert _slurm().line(call, after) == f"sbatch {options}s.sh"
    assert _slurm().line(call, after, "x") == f"x=$(sbatch --parsable {options}s.sh)"


def test_the_number_of_a_sent_job_is_read_also_with_its_clusters_name(program):
    program("sbatch", 'echo "sbatch: a word of the site" >&2; echo "123;west"')
    assert _slurm().send(_slurm().calls(_job(None), Path("s.sh"))[0], After()).job == "123"


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 'sbatch: error: no' >&2; echo 'sbatch: error: Failed: x' >&2; exit 1", "sbatch: no; Failed: x"),
        ("exit 3", "sbatch: exit code 3"),
        ("echo submitted", "answered 'submitted', not a job's number"),
    ],
)  # fmt: skip
def test_a_refusal_is_one_line_in_slurms_own_words(program, script, message):
    program("sbatch", script)
    with pytest.raises(SchedulerError, match=message) as caught:
        _slurm().send(_slurm().calls(_job(None), Path("s.sh"))[0], After())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("code", [0, 1])
def test_an_endless_answer_of_sbatch_becomes_a_short_line(program, code):
    program("sbatch", f"head -c 2000000 /dev/zero | tr '\\0' x | tee /dev/stderr; exit {code}")
    with pytest.raises(SchedulerError, match=r"^sbatch.*xxx") as caught:
        _slurm().send(_slurm().calls(_job(None), Path("s.sh"))[0], After())
    assert len(str(caught.value)) < 600 and "…" in str(caught.value)


def test_where_there_is_no_sbatch_it_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SchedulerError, match="sbatch: not found on this machine"):
        _slurm().send(_slurm().calls(_job(None), Path("s.sh"))[0], After())


def test_where_no_slurm_answers_its_default_size_is_taken(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert slurm_module.max_array_size() == slurm_module.DEFAULT_MAX_ARRAY_SIZE


def test_a_log_folder_that_slurm_cannot_take_is_refused():
    with pytest.raises(SchedulerError, match="backslash"):
        _slurm().script(_job(logs="/a\\b"))


def test_states_are_read_from_whatever_squeue_writes(program):
    lines = [
        "12_3|RUNNING|n 1|0|2|vsp:abc:extract:10|1700000000|1700000001|N/A|None|",
        "12_[5,7-9%2]|PENDING||0|0|vsp:abc:extract:10|1700000000|1700000001|N/A|Resources|",
        "13|PENDING||0|0|vsp:abc:verify:0|1700000000|N/A|N/A|(a site's | own reason)|",
        "9_1|FAILED|n2|768|1|vsp:abc:extract:0|1700000000|1700000001|N/A|NonZeroExitCode|",
        "8_1|CANCELLED by 7|n2|15|0|vsp:abc:extract:0|1700000000|1700000001|N/A|None|",
        "7|RUNNING|n2|0|0|vsp:other:extract:0|1700000000|1700000001|N/A|None|",
        "6|RUNNING|n2|0|0|(null)|1700000000|1700000001|N/A|None|",
        "what is this",
        "",
    ]
    program("squeue", f"printf '%s\\n' {shlex.join(lines)}")
    program("sacct", "echo 'sacct: error: Slurm accounting storage is disabled' >&2; exit 1")
    states = _slurm().states(_query())
    assert states.problem == ""
    assert [(t.job, t.stage, t.shard, t.state, t.active) for t in states.tasks] == [
        ("8_1", "extract", 1, "CANCELLED", False),
        ("9_1", "extract", 1, "FAILED", False),
        ("12_3", "extract", 13, "RUNNING", True),
        *((f"12_{i}", "extract", 10 + i, "PENDING", True) for i in (5, 7, 8, 9)),
        ("13", "verify", None, "PENDING", True),
    ]
    failed, running, waiting = states.tasks[1], states.tasks[2], states.tasks[-1]
    assert (failed.exit_code, failed.restarts, failed.node) == ("3:0", 1, "n2")
    assert states.tasks[0].exit_code == "0:15"
    assert (running.reason, running.node, running.exit_code) == ("", "n 1", None)
    assert waiting.reason == "(a site's | own reason)"


def test_numbers_and_comments_that_others_write_are_bounded(program):
    long = "9" * 5000
    lines = [
        f"12_3|RUNNING|n1|0|0|vsp:abc:extract:{long}|1700000000|1700000001|N/A|None|",
        f"{long}_1|RUNNING|n1|0|0|vsp:abc:extract:0|1700000000|1700000001|N/A|None|",
        f"13_{long}|RUNNING|n1|0|0|vsp:abc:extract:0|1700000000|1700000001|N/A|None|",
        f"14_[0-{long}]|PENDING|n1|0|0|vsp:abc:extract:0|1700000000|1700000001|N/A|None|",
        "15_1|RUNNING|n1|0|0|vsp:abc:other stage:0|1700000000|1700000001|N/A|None|",
        "15_2|RUNNING|n1|0|0|vsp:abc:probe-parts:0|1700000000|1700000001|N/A|None|",
        f"16_٣|RUNNING|n1|{long}|{long}|vsp:abc:extract:0|1700000000|1700000001|N/A|None|",
        f"17_1|FAILED|n1|{long}|{long}|vsp:abc:extract:0|1700000000|1700000001|N/A|None|",
    ]
    program("squeue", f"printf '%s\\n' {shlex.join(lines)}")
    program("sacct", f"printf '%s\\n' '{long}|FAILED|n1|1:0|vsp-name|vsp:abc:extract:0'")
    states = _slurm().states(_query(jobs={"x --bad": 1, "1" * 200_000: 2}))
    assert states.problem == ""
    assert [(t.job, t.exit_code, t.restarts) for t in states.tasks] == [("17_1", None, None)]


def test_accounting_tells_of_jobs_that_squeue_forgot_and_of_no_other_run(program):
    program(
        "squeue", "echo '12_3|RUNNING|n1|0|0|vsp:abc:extract:0|1700000000|1700000001|N/A|None|'"
    )
    lines = [
        "12_3|FAILED|n1|1:0|vsp-name|",
        "12_4|TIMEOUT|n1|0:1|vsp-name|",
        "11_0|CANCELLED by 0|n1|0:15|vsp-name|vsp:other:extract:0",
        "10_2|OUT_OF_MEMORY|n1|0:125|vsp-name|vsp:abc:extract:20",
        "9|FAILED|n2|1:0|verify-name|",
        "8|FAILED|n2|1:0|something else|",
        "12_[5-6%2]|PENDING|None assigned|0:0|vsp-name|",
    ]
    program("sacct", f"printf '%s\\n' {shlex.join(lines)}")
    tasks = _slurm().states(_query()).tasks
    assert [(t.job, t.stage, t.shard, t.state) for t in tasks] == [
        ("9", "verify", None, "FAILED"),
        ("10_2", "extract", 22, "OUT_OF_MEMORY"),
        ("12_3", "extract", 3, "RUNNING"),
        ("12_4", "extract", 4, "TIMEOUT"),
    ]
    known = _slurm().states(_query(jobs={"12": 30})).tasks
    assert {t.job: t.shard for t in known}["12_4"] == 34
    program("squeue", "echo 'squeue: error: busy' >&2; exit 1")
    states = _slurm().states(_query())
    assert states.problem == "squeue: busy"
    assert [t.shard for t in states.active("extract")] == [5, 6]


def test_a_job_of_another_run_of_the_same_name_is_not_counted_where_accounting_has_no_comments(
    program,
):
    """The other run lies in another folder; only squeue tells whose the job is."""
    lines = ["20|CANCELLED|||0|vsp:abc:verify:0|1700000000|1700000001|N/A|None|", "7|COMPLETED|n1|0|0|vsp:other:verify:0|1700000000|1700000001|N/A|None|",
             "8_1|COMPLETED|n1|0|0|vsp:other:extract:0|1700000000|1700000001|N/A|None|"]  # fmt: skip
    program("squeue", f"printf '%s\\n' {shlex.join(lines)}")
    lines = ["20|CANCELLED||0:0|verify-name|", "7|COMPLETED|n1|0:0|verify-name|",
             "8_1|COMPLETED|n1|0:0|vsp-name|", "6|FAILED|n1|1:0|verify-name|"]  # fmt: skip
    program("sacct", f"printf '%s\\n' {shlex.join(lines)}")
    found = [(task.job, task.state) for task in _slurm().states(_query()).tasks]
    assert found == [("6", "FAILED"), ("20", "CANCELLED")]


def test_journals_tell_which_shards_an_array_had_that_only_accounting_knows(
    program, plan_fake, monkeypatch
):
    run = plan_fake(n_shards=8, options={"hidden_size": 1024})
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "12")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
    with Journal(run.journals, run.plan.id, 6, task=current_task()):
        pass
    program("squeue", "exit 0")
    program("sacct", f"echo '12_2|TIMEOUT|n1|0:1|vsp-{run.name}|'")
    tasks = task_states(run, _slurm(), run.ledgers()).tasks
    assert [(t.job, t.shard) for t in tasks] == [("12_2", 7)]


def test_the_scheduler_tells_which_task_a_process_is():
    slurm = _slurm()
    assert slurm.current_task({}) is None
    assert slurm.current_task({"SLURM_JOB_ID": "7", "SLURMD_NODENAME": "n1"}) == TaskIdentity(
        "7", "n1"
    )
    array = {"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3"}
    task = slurm.current_task({**array, "SLURM_RESTART_COUNT": "2"})
    assert task == TaskIdentity("7_3", None, 2)
    assert SCHEDULERS.load("local")().current_task(array) is None


def test_a_queue_is_there_where_sbatch_is(program, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not _slurm().has_queue()
    program("sbatch", "")
    program("scontrol", "")
    local = SCHEDULERS.load("local")()
    assert _slurm().has_queue() and not local.has_queue()
    assert local.runs_here and not _slurm().runs_here


def test_accounting_is_left_alone_where_only_active_tasks_are_wanted(program):
    program(
        "squeue", "echo '12_3|RUNNING|n1|0|0|vsp:abc:extract:0|1700000000|1700000001|N/A|None|'"
    )
    program("sacct", "echo '12_4|TIMEOUT|n1|0:1|vsp-name|'")
    assert [task.job for task in _slurm().states(_query(ended=False)).tasks] == ["12_3"]


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1", "Unable"),
        ("sleep 5", "squeue: no answer in 0.5 s"),
        ("kill -9 $$", "squeue: exit code -9"),
    ],
)
def test_a_batch_system_that_does_not_answer_is_a_reason_not_an_error(
    program, monkeypatch, script, problem
):
    monkeypatch.setattr(slurm_module, "_ASK_TIMEOUT", 0.5)
    program("squeue", script)
    program("sacct", "exit 0")
    states = _slurm().states(_query())
    assert states.tasks == () and problem in states.problem and "\n" not in states.problem


UNCONFIGURED = """echo called >> calls
for line in 'error: fetch_config: DNS SRV lookup failed' 'fatal: Could not establish a configuration source'
do echo "$(basename $0): $line" >&2; done; exit 1"""
NOT_CONFIGURED = (
    "Slurm is installed on this machine but not configured for a cluster; use a machine of the cluster, "
    "or set `scheduler: local` in the profile"
)


def test_slurm_without_a_configuration_is_said_once(program, work):
    for name in ("squeue", "sacct", "sbatch", "scontrol"):
        program(name, UNCONFIGURED)
    slurm, asked_first = _slurm(), _slurm()
    assert slurm.states(_query(jobs={"1": 0})).problem == NOT_CONFIGURED and not slurm.has_queue()
    assert (work / "calls").read_text().count("called") == 1
    assert not asked_first.has_queue()
    assert asked_first.states(_query()).problem == NOT_CONFIGURED
    assert (work / "calls").read_text().count("called") == 2
    with pytest.raises(SchedulerError) as caught:
        slurm.send(slurm.calls(_job(None), Path("s.sh"))[0], After())
    assert str(caught.value) == NOT_CONFIGURED


def test_commands_say_once_that_slurm_is_not_configured(program, plan_fake, vsp):
    for name in ("squeue", "sacct", "sbatch", "scontrol"):
        program(name, UNCONFIGURED)
    run = plan_fake()
    status = vsp("status", "--run", run.name)
    assert " ".join(status.stdout.split()).count(NOT_CONFIGURED[:60]) == 1 and status.stderr == ""
    assert "vsp extract" in status.stdout and "vsp resume" not in status.stdout
    for command, code in (("submit", 1), ("resume", 1), ("resume --dry-run", 0)):
        answer = vsp(*command.split())
        assert answer.returncode == code and answer.stderr.count("not configured") == code
        assert (answer.stdout + answer.stderr).count("not configured") == 1, answer


def test_a_users_own_settings_of_squeue_change_no_answer(program, monkeypatch):
    monkeypatch.setenv("SQUEUE_USERS", "nobody")
    monkeypatch.setenv("SACCT_FORMAT", "x")
    program("squeue", '[ -z "$SQUEUE_USERS$SACCT_FORMAT" ] || exit 1')
    program("sacct", "exit 0")
    assert _slurm().states(_query()).problem == ""


def test_a_task_that_is_active_speaks_for_its_shard_else_the_last_sent():
    tasks = [
        TaskState("1_0", "extract", 0, "running", "RUNNING"),
        TaskState("2_0", "extract", 0, "failed", "FAILED"),
        TaskState("1_1", "extract", 1, "failed", "FAILED"),
        TaskState("2_1", "extract", 1, "failed", "TIMEOUT"),
        TaskState("3", "verify", None, "queued", "PENDING"),
    ]
    states = States(tuple(tasks))
    assert {n: task.job for n, task in states.latest("extract").items()} == {0: "1_0", 1: "2_1"}
    assert [task.job for task in states.active("extract")] == ["1_0"]


def test_the_stages_of_a_run_as_jobs(plan_fake):
    run = plan_fake(n_shards=2, options={"hidden_size": 1024})
    profile = Profile(cpus_per_task=8, throttle=2, cpu=Resources(cpus_per_task=32))
    jobs = chain(run, profile, probe_tasks=4, partial=True, retry_failed=True)
    assert [job.stage for job in jobs] == ["extract", "verify", "probe-parts", "probe", "report"]
    assert [job.n_tasks for job in jobs] == [2, None, 4, None, None]
    words = [" ".join(job.command[7:]) for job in jobs]
    assert words == [
        "--retry-failed --shard",
        "--n-jobs 32",
        "--n-jobs 32 --partial --part",
        "--n-jobs 32 --partial",
        "--save",  # report, figures and page stay in results/RUN
    ]
    assert all(Path(job.command[0]).is_absolute() for job in jobs)
    assert {job.command[6] for job in jobs} == {str(run.folder.absolute())}
    assert [job.name[:6] for job in jobs] == ["vsp-fa", "verify", "parts-", "probe-", "report"]
    assert [job.resources.cpus_per_task for job in jobs] == [8, 32, 32, 32, 1]
    assert (
        jobs[2].number == "{}/4"
        and jobs[0].signal_seconds == 120
        and jobs[1].signal_seconds is None
    )
    assert [job.stage for job in chain(run, profile, STAGES[2:])] == ["probe", "report"]
    assert log_name("extract", "12_3") == "extract-12_3.log"


def test_stages_without_a_model_take_account_and_partition_over_and_nothing_else():
    gpu = {
        "partition": "gpu",
        "account": "a",
        "qos": "q",
        "gres": "gpu:1",
        "time": "1",
        "mem": "9G",
    }
    cpu = Profile(**gpu, cpus_per_task=8, constraint="a100").cpu_resources()
    assert cpu == Resources(partition="gpu", account="a", qos="q")
    named = Profile(**gpu, cpu=Resources(partition=None, qos="long", mem="1G")).cpu_resources()
    assert named == Resources(partition=None, account="a", qos="long", mem="1G")


def test_tasks_find_checkpoints_where_the_planning_shell_did_unless_the_profile_says_else(
    plan_fake, monkeypatch, work
):
    run = plan_fake()
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", "hub it's")
    before = dict(os.environ)
    plain = extract_job(run, Profile(cpus_per_task=3)).environment
    assert plain == {"OMP_NUM_THREADS": "3", "HF_HUB_OFFLINE": "1", "HF_HOME": f"{work}/hub it's"}
    named = Profile(environment={"HF_HOME": "/x", "HF_HUB_OFFLINE": "0", "OMP_NUM_THREADS": "2"})
    assert extract_job(run, named).environment == named.environment
    assert os.environ == before
    verify = chain(run, Profile(cpu=Resources(cpus_per_task=9)), ("verify",))[0]
    assert verify.environment["OMP_NUM_THREADS"] == "1"  # one process per core
