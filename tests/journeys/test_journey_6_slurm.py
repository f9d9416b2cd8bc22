"""A chain on a real Slurm: submit, look, cancel, resume, and a time limit.

A user submits a run, cancels it by mistake, and later meets the time limit.
"""

import os

import pytest
from helpers import rig
from helpers.journey import User

NO_SLURM = rig.why_not()
IN_CI = os.environ.get("CI") == "true"
PROFILE = "time: '10'\ncpu: {cpus_per_task: 1}\n"

pytestmark = pytest.mark.skipif(bool(NO_SLURM) and not IN_CI, reason=f"no Slurm: {NO_SLURM}")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    assert not NO_SLURM, f"CI needs a Slurm: {NO_SLURM}"
    folder = tmp_path_factory.mktemp("slurm")
    with pytest.MonkeyPatch.context() as patch, rig.Cluster(folder, nodes=2) as cluster:
        patch.setenv("SLURM_CONF", cluster.environment["SLURM_CONF"])
        yield cluster


@pytest.fixture
def user(cluster, project):
    (project / "jobs/slurm.yaml").write_text(PROFILE)
    return User(project)


def test_a_chain_is_submitted_cancelled_and_resumed(user):
    user.types(
        67,
        "vsp plan --model fake --dataset data/raw/demo --option n_layers=2 --option pause=1 --batch-size 4 --shards 2 --run slow",
        "how many tasks, and the commands that start them", "shards 2 of", "vsp submit",
    )  # fmt: skip
    user.types(
        68,
        "vsp status slow",
        "that nothing was submitted, and what to type",
        "extract not started",
        "next: ",
    )
    user.types(
        69, "vsp submit slow", "a job for each stage, and what each waits for",
        "stage job tasks waits for", "extract", "verify", "probe", "report", "logs in",
    )  # fmt: skip
    user.types(
        70, "vsp status slow", "the state of each stage", "run slow:", "extract", "probe", "report"
    )
    user.types(71, "vsp submit slow", "that it is submitted already", "slow", code=1)
    user.types(72, "vsp rm slow --yes", "that jobs use it", "slow", code=1)
    user.types(73, "scancel --user=root && sleep 4", "nothing")
    seen = user.types(
        74, "vsp status slow", "that it was cancelled, in words, and what comes next",
        "cancelled", "next: vsp resume --run slow",
    )  # fmt: skip
    user.follows(
        75,
        "vsp resume --run slow",
        "the missing shards alone are submitted",
        seen,
        "extract",
        "report",
    )
    user.types(
        76, "vsp status slow --watch 2", "the page again and again, until the run has ended",
        "run slow: 100% done", "report",
    )  # fmt: skip
    user.types(77, "vsp submit slow", "that everything is done", "slow")
    user.types(78, "vsp report slow", "the curve", "The figure to cite", "run slow")


def test_a_task_that_meets_its_time_limit_is_resumed(user, cluster):
    limit = f"{PROFILE}time: '1'\nsignal_seconds: 50\n".replace("time: '10'\n", "", 1)
    (user.folder / "jobs/slurm.yaml").write_text(limit)
    user.types(
        79,
        "vsp plan --model fake --dataset data/raw/demo --option n_layers=2 --option pause=1 --batch-size 4 --shards 1 --run long",
        "the run", "run long",
    )  # fmt: skip
    user.types(80, "vsp submit long", "a job for each stage", "stage job tasks waits for")
    user.types(
        81, "vsp status long --watch 3 | tail -30", "why it stopped, in words, and what comes next",
        "time limit", "vsp resume --run long",
    )  # fmt: skip
    seen = user.types(82, "vsp status long", "the same", "time limit")
    user.types(83, "vsp logs long", "the end of the log of the task", "shard 0")
    (user.folder / "jobs/slurm.yaml").write_text(PROFILE)
    user.follows(84, "vsp resume --run long", "a new chain", seen, "extract")
    user.types(85, "vsp status long --watch 3 | tail -30", "all stages done", "100% done", "report")
