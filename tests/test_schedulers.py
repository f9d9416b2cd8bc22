import subprocess
from pathlib import Path

import pytest

from vsp.config import Profile
from vsp.errors import SchedulerError
from vsp.schedulers import SCHEDULERS, ArrayJob
from vsp.schedulers import slurm as slurm_module

NASTY = 'it\'s a "run" $HOME `x` &; #1'


def _job(n_tasks=3, logs="/l o/g", **profile):
    command = ("printf", "%s|", "--run", NASTY, "--shard")
    return ArrayJob("name", command, n_tasks, Path(logs), Profile(**profile))


def _slurm():
    return SCHEDULERS.load("slurm")()


def _run(script, **environment):
    return subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", **environment},
    )


@pytest.mark.parametrize("name", SCHEDULERS.names())
def test_every_scheduler_writes_a_script_that_bash_accepts(name):
    scheduler = SCHEDULERS.load(name)()
    job = _job(environment={"A": NASTY})
    assert scheduler.script(job).startswith("#!/bin/bash\n")
    subprocess.run(["bash", "-n"], input=scheduler.script(job), text=True, check=True)
    assert all(
        "jobs/x y.sh" in c.replace("'", "") for c in scheduler.commands(job, Path("jobs/x y.sh"))
    )


def test_the_array_index_is_the_shard_and_arguments_arrive_untouched():
    answer = _run(_slurm().script(_job()), SLURM_ARRAY_TASK_ID="2")
    assert answer.stdout == f"--run|{NASTY}|--shard|2|"


def test_a_later_submission_begins_at_its_first_task():
    answer = _run(_slurm().script(_job()), SLURM_ARRAY_TASK_ID="2", VSP_FIRST_TASK="1001")
    assert answer.stdout.endswith("|1003|")


def test_without_an_array_the_script_refuses_to_run():
    answer = _run(_slurm().script(_job()))
    assert answer.returncode != 0 and "submit this script with sbatch" in answer.stderr


def test_the_local_script_runs_every_task_in_turn():
    answer = _run(SCHEDULERS.load("local")().script(_job()))
    assert answer.stdout == "".join(f"--run|{NASTY}|--shard|{i}|" for i in range(3))


def test_a_profile_becomes_directives_and_leaves_out_what_it_does_not_name():
    script = _slurm().script(
        _job(partition="gpu", time="02:00:00", gres="gpu:1", mem="32G", throttle=4, cpus_per_task=8)
    )
    directives = dict(line.split(None, 2)[1:] for line in script.splitlines() if "#SBATCH" in line)
    assert directives["--partition"] == "gpu" and directives["--gres"] == "gpu:1"
    assert directives["--array"] == "0-2%4" and directives["--cpus-per-task"] == "8"
    assert directives["--time"] == "02:00:00" and directives["--mem"] == "32G"
    assert "--account" not in directives and "--qos" not in directives
    assert "export OMP_NUM_THREADS=8" in script


def test_modules_are_loaded_and_a_missing_one_stops_the_task():
    script = _slurm().script(_job(modules=("cuda/12.4",), environment={"A": NASTY}))
    assert "module load cuda/12.4 || exit 1" in script
    answer = _run(script, SLURM_ARRAY_TASK_ID="0")  # there is no `module` here
    assert answer.returncode == 1 and not answer.stdout


def test_the_environment_reaches_the_worker():
    job = ArrayJob(
        "n", ("sh", "-c", 'printf %s "$A"'), 1, Path("/l"), Profile(environment={"A": NASTY})
    )
    assert _run(_slurm().script(job), SLURM_ARRAY_TASK_ID="0").stdout == NASTY


@pytest.mark.parametrize(
    ("n_tasks", "arrays"),
    [(10, ["0-9"]), (11, ["0-9", "0-0"]), (25, ["0-9", "0-9", "0-4"])],
)
def test_more_tasks_than_an_array_holds_become_several_submissions(monkeypatch, n_tasks, arrays):
    monkeypatch.setattr(slurm_module, "max_array_size", lambda: 10)
    job = _job(n_tasks, throttle=3)
    first, *later = _slurm().commands(job, Path("s.sh"))
    assert first == "sbatch s.sh" and f"--array               {arrays[0]}%3\n" in _slurm().script(
        job
    )
    assert later == [
        f"sbatch --array={array}%3 --export=ALL,VSP_FIRST_TASK={10 * k} s.sh"
        for k, array in enumerate(arrays[1:], start=1)
    ]


def test_where_no_slurm_answers_its_default_size_is_taken(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert slurm_module.max_array_size() == slurm_module.DEFAULT_MAX_ARRAY_SIZE


def test_a_log_folder_that_slurm_cannot_take_is_refused():
    with pytest.raises(SchedulerError, match="backslash"):
        _slurm().script(_job(logs="/a\\b"))
