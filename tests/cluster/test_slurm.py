"""The main job on a real Slurm: four nodes on this machine, the commands of the README."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import rig
from helpers.limited import Runner

from vsp.cluster.contract import Job
from vsp.cluster.slurm import Slurm, max_array_size
from vsp.config import Resources, parse
from vsp.storage.run import Run

REASON = rig.why_not()
pytestmark = pytest.mark.skipif(
    bool(REASON) and os.environ.get("CI") != "true", reason=f"no Slurm: {REASON}"
)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    assert not REASON, f"CI needs a Slurm: {REASON}"
    with rig.Cluster(tmp_path_factory.mktemp("slurm"), nodes=4, max_array_size=3) as cluster:
        yield cluster


@pytest.fixture
def place(tmp_path):
    folder = tmp_path / rig.FOLDER
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def vsp(cluster, tmp_path_factory):
    """Run a command in a copy of one process that has imported the libraries of the model."""
    # One thread, as in the tasks: on a CPU, the last bits depend on the number of threads.
    cluster.environment["OMP_NUM_THREADS"] = "1"
    libraries = ("torch", "transformers.models.llava.modeling_llava", "vsp.models.llava")
    runner = Runner(tmp_path_factory.mktemp("runner"), libraries, environment=cluster.environment)

    def run(place, *arguments):
        ended = runner.run(*arguments, folder=place)
        assert ended.code == 0, ended
        return ended.out

    yield run
    runner.close()


def _logs(folder: Path) -> str:
    return "\n".join(path.read_text() for path in sorted(folder.glob("*.log")))


def test_an_array_job_writes_the_bytes_of_a_local_run_and_the_probe_waits_for_it(
    cluster, vsp, place, spatial, checkpoint
):
    plan = ("plan", "--model", "llava15", "--checkpoint", checkpoint, "--dataset", spatial,
            "--quantization", "none", "--shards", 2, "--limit", 48, "--run")  # fmt: skip
    vsp(place, *plan, "here")
    assert "48 rows done" in vsp(place, "extract", "--run", "here")
    vsp(place, *plan, "slurm")

    extract = cluster.sbatch("jobs/extract_array.sh", cwd=place)
    few_fits = "--grid 0.01 1 --permutations 2 --controls 0 --no-curve --no-random --no-words"
    command = f"{sys.executable} -m vsp probe --run slurm --n-jobs 1 {few_fits}"
    log = place.parent / "probe.log"
    probe = cluster.sbatch(
        f"--dependency=afterok:{extract}", f"--output={log}", f"--wrap={command}", cwd=place
    )
    assert cluster.wait(extract) == {"COMPLETED"}, _logs(place / "scratch/slurm/logs")
    assert cluster.wait(probe) == {"COMPLETED"}, log.read_text()

    here, there = (place / f"scratch/{run}/states.npy" for run in ("here", "slurm"))
    assert there.read_bytes() == here.read_bytes()
    assert ["all", "48", "48", "0", "0"] in map(
        str.split, vsp(place, "status", "--run", "slurm").splitlines()
    )
    assert "The figure to cite: layers selected" in vsp(place, "report")
    logs = sorted(path.name for path in (place / "scratch/slurm/logs").iterdir())
    assert logs == [f"extract-{extract}_{task}.log" for task in range(2)]
    lives = [ledger.lives for ledger in Run.open(place / "scratch/slurm").ledgers()]
    assert [[life.job for life in one] for one in lives] == [[f"{extract}_{i}"] for i in range(2)]


def test_an_array_beyond_maxarraysize_is_split_and_every_shard_runs(cluster, vsp, place, spatial):
    answer = vsp(
        place, "plan", "--model", "fake", "--dataset", spatial, "--shards", 7,
        "--option", "hidden_size=1024",
    )  # fmt: skip
    commands = [line[9:] for line in answer.splitlines() if "sbatch" in line]
    assert len(commands) == 3 and commands[2].endswith(" jobs/extract_array.sh 6")
    jobs = []
    for command in commands:
        submitted = subprocess.run(
            command, shell=True, cwd=place, env=cluster.environment, capture_output=True, text=True
        )
        assert submitted.returncode == 0, submitted.stderr
        jobs.append(int(submitted.stdout.split()[-1]))
    assert [cluster.wait(job) for job in jobs] == [{"COMPLETED"}] * 3
    assert "96 rows done, 0 failed, 0 missing" in vsp(place, "extract")
    assert len(list((place / "scratch/fake-spatial/journal").iterdir())) == 7


def test_one_task_more_than_the_limit_is_what_slurm_refuses(cluster, place, monkeypatch):
    monkeypatch.setenv("SLURM_CONF", cluster.environment["SLURM_CONF"])
    limit = max_array_size()
    assert limit == 3
    for last, code in ((limit - 1, 0), (limit, 1)):
        answer = subprocess.run(
            ["sbatch", f"--array=0-{last}", "--wrap=true", "--output=/dev/null"],
            cwd=place, env=cluster.environment, capture_output=True, text=True,
        )  # fmt: skip
        assert answer.returncode == code, answer.stderr


def test_slurm_takes_the_options_of_a_profile(cluster, place):
    values = {"mem_per_cpu": 100, "exclusive": "user", "nice": 50, "exclude": "n1", "hold": True}
    job = Job("extract", "n", "abc", ("true",), place, resources=Resources(**values))
    script = place / "options.sh"
    script.write_text(Slurm().script(job))
    number = cluster.sbatch(str(script), cwd=place)
    shown = cluster.run("scontrol", "show", "job", str(number), cwd=place).split()
    expected = {"MinMemoryCPU=100M", "OverSubscribe=USER", "Nice=50", "ExcNodeList=n1"}
    assert expected <= set(shown)
    cluster.run("scancel", str(number), cwd=place)


@pytest.mark.parametrize(
    "text",
    ["a b", "x' --wrap=hit", 'y" --wrap=hit', "# z", "$(touch hit)", "`touch hit`", "a;b&c|d>e", "é",
     "x\" '--nice=7", "%j", "a=b", "'", '"'],
)  # fmt: skip
def test_slurm_reads_hostile_text_as_one_value(cluster, place, text):
    resources = parse(Resources, {"account": text, "hold": True}, "p.yaml")
    script = place / "hostile.sh"
    script.write_text(Slurm().script(Job("e", "n", "abc", ("true",), place, resources=resources)))
    number = cluster.sbatch(str(script), cwd=place)
    form = "--Format=Account:200|,Nice:20"
    shown = cluster.run("squeue", "-h", "-j", str(number), form, cwd=place)
    cluster.run("scancel", str(number), cwd=place)
    account, _, nice = shown.rstrip("\n").rpartition("|")
    assert (account.strip(), nice.strip()) == (text, "0")
    assert not (place / "hit").exists()


def test_a_task_that_fails_fails_in_slurm_and_says_why(cluster, vsp, place, spatial):
    vsp(place, "plan", "--model", "fake", "--dataset", spatial)
    manifest = place / "scratch/fake-spatial/manifest.jsonl"
    manifest.write_text(manifest.read_text() + "\n")
    job = cluster.sbatch("jobs/extract_array.sh", cwd=place)
    assert cluster.wait(job) == {"FAILED"}
    assert "manifest.jsonl: was changed or lost since the plan" in _logs(manifest.parent / "logs")
