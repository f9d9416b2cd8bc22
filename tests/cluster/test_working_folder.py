"""Tasks and the `vsp` command import nothing from the folder that they are started in."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import rig
from helpers.paths import ROOT

from vsp.cluster.jobs import task_states
from vsp.cluster.slurm import Slurm
from vsp.storage.run import Run

NO_SLURM = rig.why_not()
NAMES = (
    *("json", "queue", "numpy", "argparse", "subprocess", "pickle", "selectors", "joblib", "torch"),
    *("sitecustomize", "usercustomize", "vsp/__init__", "vsp/__main__"),
)


@pytest.fixture
def place(tmp_path):
    """A folder with modules that shadow others and write a file when they are imported."""
    folder = tmp_path / rig.FOLDER
    (folder / "vsp").mkdir(parents=True)
    (folder / "jobs").mkdir()
    for name in NAMES:
        text = f"open({str(folder / 'imported')!r}, 'a').write(__name__ + '\\n'); raise SystemExit(9)\n"
        (folder / f"{name}.py").write_text(text)
    return folder


def _vsp(place, *arguments, path=str(ROOT), environment=None):
    """Run the `vsp` command, as a user does."""
    answer = subprocess.run(
        [Path(sys.executable).with_name("vsp"), *map(str, arguments)], cwd=place,
        env={**(environment or os.environ), "PYTHONPATH": path}, capture_output=True, text=True,
        timeout=240,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr + answer.stdout + _imported(place)
    return answer.stdout


def _imported(place):
    path = place / "imported"
    return path.read_text() if path.exists() else ""


def _plan(place, spatial):
    _vsp(place, "plan", "--model", "fake", "--dataset", spatial, "--shards", 2, "--run", "r")
    return Run.open(place / "scratch/r")


def test_the_vsp_command_and_its_workers_import_nothing_from_the_working_folder(place, spatial):
    _plan(place, spatial)
    _vsp(place, "extract", "--workers", 2)
    _vsp(place, "verify", "--n-jobs", 2)
    _vsp(place, "probe", "--n-jobs", 2, "--permutations", 20)
    assert "Layer selected on training data:" in _vsp(place, "report")
    assert _imported(place) == ""


def test_local_tasks_import_nothing_from_the_folder_even_if_a_search_path_has_an_empty_part(
    place, spatial
):
    run = _plan(place, spatial)
    profile = (
        f"scheduler: local\ncpu: {{cpus_per_task: 2}}\nenvironment: {{PYTHONPATH: '{ROOT}:.:'}}\n"
    )
    (place / "jobs/slurm.yaml").write_text(profile)
    answer = _vsp(place, "submit", "--probe-tasks", 2)
    assert "report: done" in answer and run.results.exists()
    assert "note: the profile sets PYTHONPATH: this decides which code the tasks run" in answer
    assert _imported(place) == ""


@pytest.mark.skipif(
    bool(NO_SLURM) and os.environ.get("CI") != "true", reason=f"no Slurm: {NO_SLURM}"
)
def test_slurm_tasks_import_nothing_from_the_folder_that_they_are_sent_from(
    place, spatial, tmp_path_factory
):
    assert not NO_SLURM, f"CI needs a Slurm: {NO_SLURM}"
    with (
        rig.Cluster(tmp_path_factory.mktemp("slurm"), nodes=2) as cluster,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("SLURM_CONF", cluster.environment["SLURM_CONF"])
        run = _plan(place, spatial)
        (place / "jobs/slurm.yaml").write_text("cpu: {cpus_per_task: 2}\n")
        _vsp(place, "submit")
        states = [task.job for task in task_states(run, Slurm(), ended=False).tasks]
        for job in dict.fromkeys(job.partition("_")[0] for job in states):
            logs = sorted((run.folder / "logs").glob("*.log"))
            assert cluster.wait(int(job)) == {"COMPLETED"}, [log.read_text() for log in logs]
        by_hand = cluster.sbatch("jobs/extract_array.sh", cwd=place)
        assert cluster.wait(by_hand) == {"COMPLETED"}
    assert run.results.exists() and _imported(place) == ""


def test_a_script_that_is_started_by_hand_imports_nothing_from_the_folder(place, spatial):
    (place / "jobs/slurm.yaml").write_text("scheduler: local\n")
    run = _plan(place, spatial)
    subprocess.run(
        ["bash", "jobs/extract_array.sh"], cwd=place, env={**os.environ, "PYTHONPATH": f"{ROOT}:"},
        check=True,
    )  # fmt: skip
    assert [ledger.n_missing for ledger in run.ledgers()] == [0, 0] and _imported(place) == ""


def _imports(place, *options, **environment):
    """The file of the module json, here and in a child process, after vsp has set its import path."""
    code = (
        "from vsp.utils.import_path import leave_out_working_folder as leave_out; leave_out()\n"
        "import subprocess, sys\n"
        "child = [sys.executable, '-c', 'import json; print(json.__file__)']\n"
        "import json; print(json.__file__, flush=True); subprocess.run(child, check=True)"
    )
    done = subprocess.run(
        [sys.executable, *options, "-c", code], cwd=place, capture_output=True, text=True,
        env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {Path(line).parents[1] for line in done.stdout.splitlines()}


@pytest.mark.parametrize("relative", ["", ".", "../place", "./"])
def test_an_empty_or_relative_part_of_pythonpath_names_no_folder_to_import_from(tmp_path, relative):
    place = tmp_path / "place"
    place.mkdir()
    (place / "json.py").write_text("raise SystemExit('imported')\n")
    (place / "subprocess.py").write_text("raise SystemExit('imported')\n")
    path = f"{ROOT}:{relative}"
    assert _imports(place, "-P", PYTHONPATH=path) == {Path(os.__file__).parent}


def test_a_full_path_in_pythonpath_stays(tmp_path):
    (tmp_path / "json").mkdir()
    (tmp_path / "json/__init__.py").write_text("")
    path = f"{ROOT}:{tmp_path}"
    assert _imports(tmp_path, "-P", PYTHONPATH=path) == {tmp_path}


def test_the_folder_that_holds_this_vsp_stays_on_the_path(tmp_path):
    code = (
        "from vsp.utils.import_path import leave_out_working_folder as leave_out; leave_out()\n"
        "import subprocess, sys\n"
        "subprocess.run([sys.executable, '-c', 'import vsp; print(vsp.__file__)'], check=True)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "PYTHONPATH": "."},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == f"{ROOT}/vsp/__init__.py\n"
