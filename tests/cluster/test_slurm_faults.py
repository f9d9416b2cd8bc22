"""Tasks that a real Slurm kills, requeues or stops: the store ends equal to an undisturbed run."""

import json
import os
import signal
import time
from collections.abc import Callable

import pytest
from helpers import rig
from helpers.commands import run_here

from vsp.extraction.extract import extract
from vsp.extraction.plan import PlanRequest, plan_run
from vsp.models import resolve
from vsp.storage.layout import HEADER_BYTES
from vsp.storage.run import Run

REASON = rig.why_not()
pytestmark = pytest.mark.skipif(
    bool(REASON) and os.environ.get("CI") != "true", reason=f"no Slurm: {REASON}"
)
OPTIONS = {"hidden_size": 1024}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    assert not REASON, f"CI needs a Slurm: {REASON}"
    with (
        pytest.MonkeyPatch.context() as patch,
        rig.Cluster(tmp_path_factory.mktemp("slurm"), nodes=4) as cluster,
    ):
        patch.setenv("SLURM_CONF", cluster.environment["SLURM_CONF"])
        patch.setenv("OMP_NUM_THREADS", "1")
        yield cluster


class Place:
    """A run of four shards on the cluster."""

    def __init__(self, cluster, folder, plan, pause=0.15):
        self.cluster, self.folder = cluster, folder
        self.run = plan(n_shards=4, batch_size=1, options={**OPTIONS, "pause": pause})

    def vsp(self, *arguments):
        answer = run_here(arguments, self.folder)
        assert answer.returncode == 0, answer.stderr
        return answer.stdout

    def start(self, *options):
        """Submit the array, wait until every task has written rows, and return the job number."""
        said = self.vsp("submit", "--run", self.run.name, "--stages", "extract", *options)
        self.until(lambda: all(ledger.n_done > 2 for ledger in self.run.ledgers()), "tasks", said)
        (job,) = {life.job.partition("_")[0] for one in self.run.ledgers() for life in one.lives}
        return int(job)

    def until(self, condition, what, context="", every=0.25):
        deadline = time.monotonic() + 120
        while not condition():
            assert time.monotonic() < deadline, f"no {what}: {context}\n{self.logs()}"
            time.sleep(every)

    def wait_for_last_words(self):
        self.until(lambda: all(ledger.lives[-1].ended for ledger in self.run.ledgers()), "end")

    def logs(self):
        logs = sorted((self.run.folder / "logs").glob("*.log"))
        queue = self.cluster.run("squeue", "-r")
        return "\n".join([queue, *(f"{log.name}: {log.read_text()}" for log in logs)])

    def go_on(self, job):
        self.until(lambda: not self.cluster.hurry(job), "end", every=0.5)
        assert self.cluster.wait(job) == {"COMPLETED"}, self.logs()

    def shards(self):
        """The shards in the output of `vsp status --json`."""
        return json.loads(self.vsp("status", "--json", "--run", self.run.name))["shards"]

    def resume(self) -> Callable[[], list[int]]:
        """Submit the unfinished shards; returns a function that waits, and tells their numbers."""
        before = [len(ledger.lives) for ledger in self.run.ledgers()]
        said = self.vsp("resume", "--run", self.run.name, "--stages", "extract")

        def resumed():
            whole = lambda: not any(ledger.n_missing for ledger in self.run.ledgers())  # noqa: E731
            self.until(whole, "end", said)
            lives = [len(ledger.lives) for ledger in self.run.ledgers()]
            return [shard for shard in range(4) if lives[shard] > before[shard]]

        return resumed

    def check(self, undisturbed):
        """Check counts, that no row was computed twice, and bytes equal to the undisturbed run."""
        run = Run.open(self.run.folder)
        for ledger in run.ledgers():
            assert (ledger.n_done, ledger.n_failed, ledger.n_missing) == (
                ledger.stop - ledger.start, 0, 0,
            )  # fmt: skip
            assert sum(life.n_done for life in ledger.lives) == ledger.n_done
        assert run.store.path.read_bytes()[HEADER_BYTES:] == undisturbed
        assert "96 rows checked: all match" in self.vsp("verify", "--run", run.name)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, spatial):
    """The states of a run that nothing disturbed, after the header, which names the options."""
    plan = PlanRequest(spatial, resolve("fake", options=OPTIONS), n_shards=4, batch_size=1)
    whole = plan_run(plan, tmp_path_factory.mktemp("undisturbed")).run
    extract(whole, whole.shards)
    return whole.store.path.read_bytes()[HEADER_BYTES:]


@pytest.fixture
def place(cluster, work, plan_fake):
    return Place(cluster, work, plan_fake)


def test_tasks_that_a_higher_partition_preempts_are_requeued_and_go_on(place, undisturbed):
    job = place.start()
    urgent = place.cluster.sbatch(
        "--partition=high", "--nodes=4", "--exclusive", "--output=/dev/null", "--wrap=sleep 2",
        cwd=place.folder,
    )  # fmt: skip
    ended = [f"stopped by {signal.Signals.SIGTERM.name}"]
    place.until(
        lambda: all(
            [life.ended for life in ledger.lives] == ended for ledger in place.run.ledgers()
        ),
        "preemption",
    )
    assert place.cluster.wait(urgent) == {"COMPLETED"}
    assert {shard["state"] for shard in place.shards()} == {"queued"}
    assert all(ledger.n_missing > 0 for ledger in place.run.ledgers())
    place.go_on(job)
    assert [life.restarts for ledger in place.run.ledgers() for life in ledger.lives] == [0, 1] * 4
    place.check(undisturbed)


def test_a_task_that_is_requeued_by_hand_goes_on(place, undisturbed):
    job = place.start()
    place.cluster.run("scontrol", "requeue", f"{job}_3")
    place.go_on(job)
    assert [len(ledger.lives) for ledger in place.run.ledgers()] == [1, 1, 1, 2]
    place.check(undisturbed)


def test_the_tasks_of_a_node_that_dies_are_done_by_another(place, undisturbed):
    job = place.start()
    node = place.cluster.run("squeue", "-h", "-r", "-j", f"{job}_2", "-o", "%N").strip()
    lost = {int(task) for task in
            place.cluster.run("squeue", "-h", "-w", node, "-r", "-o", "%K").split()}  # fmt: skip
    place.cluster.kill_node(node)
    try:
        place.until(lambda: place.run.ledgers()[2].lives[0].running is False, "death")
        place.go_on(job)
        again = {i for i, ledger in enumerate(place.run.ledgers()) if len(ledger.lives) > 1}
        assert 2 in lost == again
        assert (
            place.run.ledgers()[2].lives[0].ended is None
        )  # it was killed before it could write a reason
        place.check(undisturbed)
    finally:
        place.cluster.revive_node(node)


def test_at_the_time_limit_and_at_the_warning_before_it_a_task_ends_in_order(
    cluster, work, plan_fake, undisturbed
):
    """Slurm checks limits twice a minute, so the tasks are slow and both runs are tested at once.

    There are two runs, because a task at its limit also gets the signal before the limit if its
    job asks for one, and the order of the two signals is random.
    """
    limited, warned = (Place(cluster, work, plan_fake, pause=2) for _ in range(2))
    work.joinpath("warned.yaml").write_text("time: '60'\nsignal_seconds: 600\n")
    jobs = [limited.start()]
    cluster.run("scontrol", "update", f"jobid={jobs[0]}", "endtime=now")
    jobs.append(warned.start("--profile", "warned.yaml"))
    cluster.run("scontrol", "update", f"jobid={jobs[1]}", "endtime=now+500")
    ends = (
        "time limit reached: ended its batch",
        "time limit near: ended its batch, continues with `vsp resume`",
    )
    for place, job, end in zip((limited, warned), jobs, ends, strict=True):
        place.wait_for_last_words()
        cluster.wait(job)
        whys = [shard["why"] for shard in place.shards()]
        assert all(why.startswith(end) for why in whys), (whys, place.logs())
        assert f"vsp resume --run {place.run.name}    continues shards 0-3" in place.vsp(
            "status", "--run", place.run.name
        )
        said = place.vsp("logs", "--run", place.run.name)
        assert said.count("rows written so far are kept; the same command continues") == 4, said
    resumed = [place.resume() for place in (limited, warned)]
    assert [numbers() for numbers in resumed] == [[0, 1, 2, 3]] * 2
    limited.check(undisturbed)
    warned.check(undisturbed)


def test_cancelled_tasks_are_said_to_be_and_resume_takes_them_up(place, undisturbed):
    job = place.start()
    place.cluster.run("scancel", f"{job}_0", f"{job}_3")
    place.cluster.wait(job)
    whys = [shard["why"] for shard in place.shards()]
    assert [bool(why) for why in whys] == [True, False, False, True], whys
    assert all(why.startswith("cancelled: ended its batch") for why in whys if why)
    assert place.resume()() == [0, 3]
    place.check(undisturbed)


def test_a_run_that_is_sent_twice_is_harmless_and_said(cluster, work, plan_fake, undisturbed):
    place = Place(cluster, work, plan_fake, pause=0.6)  # still running when the second starts
    script = place.run.folder / "jobs/extract.sh"
    twice = [place.cluster.sbatch("--array=2", script, cwd=place.folder) for _ in range(2)]
    assert [place.cluster.wait(job) for job in twice] == [{"COMPLETED"}] * 2, place.logs()
    said = place.logs()
    assert "running already" in said and "so one is enough" in said
    run = Run.open(place.run.folder)
    ledger = run.ledgers()[2]
    assert ledger.n_missing == 0 and not ledger.earlier and len(ledger.lives) == 2
    place.resume()()
    assert run.store.path.read_bytes()[HEADER_BYTES:] == undisturbed
