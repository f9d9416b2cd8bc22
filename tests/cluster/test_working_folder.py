"""Tasks and the `vsp` command import nothing from the folder that they are started in."""

import configparser
import os
import subprocess
import sys
import sysconfig
from importlib.util import find_spec
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
# The script that pip writes for the `vsp` command, without pip's own imports.
ENTRY = configparser.ConfigParser()
ENTRY.read(ROOT / "setup.cfg")
MODULE, FUNCTION = (
    ENTRY["options.entry_points"]["console_scripts"].partition("=")[2].strip().split(":")
)
SCRIPT = f"import sys\nfrom {MODULE} import {FUNCTION}\nsys.exit({FUNCTION}())"


QUICK = ("--permutations", 0, "--controls", 0, "--no-curve", "--no-random", "--no-words",
         "--grid", 0.01, 1)  # fmt: skip


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
        [sys.executable, "-P", "-c", SCRIPT, *map(str, arguments)], cwd=place,
        env={**(environment or os.environ), "PYTHONPATH": path}, capture_output=True, text=True,
        timeout=240,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr + answer.stdout + _imported(place)
    return answer


def _imported(place):
    path = place / "imported"
    return path.read_text() if path.exists() else ""


def _plan(place, spatial):
    _vsp(place, "plan", "--model", "fake", "--dataset", spatial, "--shards", 2, "--run", "r",
         "--option", "n_layers=2", "--option", "hidden_size=1024")  # fmt: skip
    return Run.open(place / "scratch/r")


def test_the_vsp_command_and_its_workers_import_nothing_from_the_working_folder(place, spatial):
    _plan(place, spatial)
    _vsp(place, "extract", "--workers", 2)
    _vsp(place, "verify", "--n-jobs", 2)
    _vsp(place, "probe", "--n-jobs", 2, *QUICK)
    assert "The figure to cite: layers selected" in _vsp(place, "report").stdout
    assert _imported(place) == ""


def test_local_tasks_import_nothing_from_the_folder(place, spatial):
    run = _plan(place, spatial)
    profile = (
        f"scheduler: local\ncpu: {{cpus_per_task: 1}}\nenvironment: {{PYTHONPATH: '{ROOT}'}}\n"
    )
    (place / "jobs/slurm.yaml").write_text(profile)
    answer = _vsp(place, "submit", "--", *QUICK)
    assert "report: done" in answer.stdout and run.results.exists()
    note = "note: the profile sets PYTHONPATH: this can decide which code the tasks run\n"
    assert note in answer.stderr
    dry = _vsp(place, "submit", "--dry-run")
    assert note in dry.stderr and note not in dry.stdout
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
        _vsp(place, "submit", "--", *QUICK)
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


@pytest.mark.parametrize(
    "command",
    [
        ["-P", "-c", SCRIPT, "extract", "--workers", "2", "--run", "RUN"],
        ["-m", "vsp", "extract", "--workers", "2", "--run", "RUN"],
        ["-m", "vsp.demo_training", "--help"],
    ],
)
def test_nothing_is_imported_from_the_folder_once_vsp_has_begun(plan_fake, tmp_path, command):
    """PYTHONPATH has an empty part, as after `export PYTHONPATH=/site:$PYTHONPATH`."""
    folder = str(plan_fake().folder)
    (tmp_path / "place").mkdir()
    shown = "import sys; print(*sys.modules)"
    start = subprocess.run(
        [sys.executable, "-P", "-c", shown], capture_output=True, text=True, check=True
    )  # modules that Python imports at its start may come from the folder
    for name in sys.stdlib_module_names - set(start.stdout.split()):
        # Python looks for some modules of Windows when it starts.
        if find_spec(name) and name not in ("sitecustomize", "usercustomize"):
            (tmp_path / "place" / f"{name}.py").write_text(f"print('SHADOW {name}')\n")
    done = subprocess.run(
        [sys.executable, *(folder if word == "RUN" else word for word in command)], cwd=tmp_path / "place",
        env={**os.environ, "PYTHONPATH": f"{ROOT}:"}, capture_output=True, text=True,
    )  # fmt: skip
    assert "SHADOW" not in done.stdout and done.returncode == 0, done.stdout + done.stderr


def _environment(folder):
    """The site-packages of a new environment in folder/venv, which has the packages of the tests."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    site = next((folder / "venv/lib").glob("python*/site-packages"))
    (site / "packages_of_the_tests.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return site


def _checkout(tmp_path, another_vsp):
    """A checkout, and an interpreter without vsp or with another one."""
    site = _environment(tmp_path)
    if another_vsp:
        (site / "vsp").mkdir()
        (site / "vsp/__init__.py").write_text("raise SystemExit('another vsp')\n")
    folder = tmp_path / "a checkout"
    folder.mkdir()
    (folder / "vsp").symlink_to(ROOT / "vsp")
    return folder


@pytest.mark.parametrize(("another_vsp", "path"), [(False, None), (True, "."), (True, None)])
def test_tasks_of_a_checkout_run_the_vsp_that_planned_them(tmp_path, spatial, another_vsp, path):
    checkout = _checkout(tmp_path, another_vsp)
    (checkout / "jobs").mkdir()
    (checkout / "jobs/slurm.yaml").write_text("scheduler: local\n")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {} if path is None else {"PYTHONPATH": path}
    python = checkout.parent / "venv/bin/python"

    def run(*command):
        done = subprocess.run(
            [*map(str, command)], cwd=checkout, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run(python, "-m", "vsp", "plan", "--model", "fake", "--dataset", spatial, "--run", "r")
    run("bash", "jobs/extract_array.sh")
    assert "verify: done" in run(python, "-m", "vsp", "submit", "--stages", "verify")


def test_the_folder_of_an_installed_vsp_is_added_to_no_search_path(tmp_path):
    site = _environment(tmp_path)
    (site / "vsp").symlink_to(ROOT / "vsp")
    code = "import vsp.utils.import_path as path; print([path.__file__, path.folder_of_vsp()])"
    done = subprocess.run(
        [tmp_path / "venv/bin/python", "-P", "-c", code], capture_output=True, text=True,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"}, check=True,
    )  # fmt: skip
    assert done.stdout == f"{[str(site / 'vsp/utils/import_path.py'), '']}\n"
