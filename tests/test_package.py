"""The wheel, built and installed into an environment of its own, works in an empty folder."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.limited import Runner
from helpers.paths import ROOT
from PIL import Image

QUICK = ("--n-jobs", 1, "--permutations", 2, "--controls", 0, "--no-curve", "--no-random",
         "--no-words")  # fmt: skip
CHECKPOINT = ROOT / "data/models/small-llava"
Command = Callable[..., subprocess.CompletedProcess[str]]
_SOURCE = (
    "vsp",
    "configs",
    "data/models",
    "jobs",
    "setup.cfg",
    "pyproject.toml",
    "README.md",
    "LICENSE",
)


def _run(*command: object, **more: object) -> subprocess.CompletedProcess[str]:
    answer = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, env=_environment(), **more
    )
    assert answer.returncode == 0, answer.stderr
    return answer


def _environment() -> dict[str, str]:
    """The variables without the caller's PYTHONPATH, which could contain the checkout."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}


def _pip(*arguments: object) -> None:
    _run(sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments)


def _install(python: Path, wheel: Path) -> None:
    """Install a wheel for an interpreter that has no pip of its own: to install pip takes seconds."""
    _pip("--python", python, "install", "--no-deps", "--no-index", wheel)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of the checkout, because a build writes into its source."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in _SOURCE:
        path = ROOT / name
        copy = shutil.copytree if path.is_dir() else shutil.copy2
        copy(path, source / name, **({"symlinks": True} if path.is_dir() else {}))
    _pip("wheel", "--no-deps", "--no-build-isolation", "-w", folder, source)
    return next(folder.glob("vsp-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with this wheel.

    A path file adds the other packages from the environment that runs the tests.
    """
    folder = tmp_path_factory.mktemp("installed")
    _run(sys.executable, "-m", "venv", "--without-pip", folder)
    python = folder / "bin" / "python"
    _install(python, wheel)
    site = next((folder / "lib").glob("python*/site-packages"))
    (site / "packages_of_the_tests.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


@pytest.fixture
def vsp(installed: Path, work: Path) -> Command:
    """The installed `vsp` command, in an empty folder."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        return _run(installed.with_name("vsp"), *arguments, cwd=work, timeout=240)

    return run


@pytest.fixture(scope="module")
def runner(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    """A process of the installed package that has imported the libraries of models and probes."""
    libraries = (
        "torch",
        "transformers.models.llava.modeling_llava",
        "vsp.models.loading",
        "vsp.models.llava",
        "sklearn.linear_model",
    )
    folder = tmp_path_factory.mktemp("runner")
    runner = Runner(folder, libraries, python=installed, environment=_environment())
    yield runner
    runner.close()


@pytest.fixture
def forked(runner: Runner, work: Path) -> Callable[..., str]:
    """Run a command of the installed package in a copy of that process; its output."""

    def run(*arguments: object) -> str:
        ended = runner.run(*arguments, folder=work)
        assert ended.code == 0, ended
        return ended.out + ended.err

    return run


def test_the_installed_package_is_the_wheels(installed, work):
    where = _run(installed, "-c", "import vsp; print(vsp.__file__)", cwd=work).stdout
    assert Path(where).is_relative_to(installed.parents[1])


def test_a_wheel_holds_every_configuration_and_no_job_script(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    files = [path.relative_to(ROOT) for path in (ROOT / "configs").rglob("*.yaml")]
    files += [path.relative_to(ROOT) for path in (ROOT / "data/models/small-llava").iterdir()]
    assert names >= {f"vsp/shipped/{path}" for path in files}
    assert "vsp/shipped/data/models/small-llava/model.safetensors" in names
    assert "vsp/shipped/jobs/slurm.yaml" in names
    web = [
        path for path in (ROOT / "vsp/web").rglob("*") if path.is_file() and path.suffix != ".sh"
    ]
    assert names >= {str(path.relative_to(ROOT)) for path in web}
    assert not [name for name in names if name.endswith(".sh") or name.startswith("tests")]


def test_every_command_of_the_main_job_works_in_an_empty_folder(vsp, forked, work):
    generated = vsp("generate", "--config", "demo")
    assert "configs/demo_dataset.yaml, shipped with vsp" in generated.stderr
    assert "llava-1.5-7b" in vsp("models").stdout
    planned = forked(
        "plan", "--model", "small", "--dataset", "data/raw/demo", "--limit", 40, "--run", "small"
    )
    assert "site-packages/vsp/shipped/data/models/small-llava" in planned
    for name in ("configs/models/small.yaml", "jobs/slurm.yaml"):
        assert f"{name}, shipped with vsp" in planned
    assert (work / "jobs/extract_array.sh").is_file()
    assert "sbatch" in forked("submit", "--dry-run")
    forked("extract")
    forked("verify")
    forked("probe", *QUICK, "--grid", 0.01, 1)
    assert "layer" in forked("report")


def test_a_file_of_ones_own_goes_first_and_vsp_says_so(vsp, work):
    own = work / "configs" / "spatial_dataset.yaml"
    own.parent.mkdir()
    own.write_text("task: spatial\nn_samples: 8\nseed: 1\noutput: data/own\n")
    answer = vsp("generate", "--config", "spatial")
    assert "wrote 8 spatial samples" in answer.stdout
    assert "configs/spatial_dataset.yaml" in answer.stderr
    assert "shipped" not in answer.stderr


def test_a_table_is_imported_with_the_shipped_relations(vsp, work):
    (work / "images").mkdir()
    Image.new("RGB", (8, 8)).save(work / "images" / "a.png")
    (work / "own.csv").write_text("image,subject,object,relation\na.png,cup,plate,left of\n")
    answer = vsp(
        "import", "csv", "--annotations", "own.csv", "--images", "images", "--out", "data/own"
    )
    assert "configs/relations/6way.yaml, shipped with vsp" in answer.stderr
    records = json.loads((work / "data/own/metadata.json").read_text())
    assert [record["label"] for record in records] == ["left_of"]


# A package of somebody else, with a member of each of four families.


@pytest.fixture(scope="module")
def extension(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The package of docs/extending.md, built from its code blocks and installed beside vsp."""
    folder = tmp_path_factory.mktemp("extension")
    blocks = re.findall(
        r"```\w+\n# (\S+)\n(.*?)```\n", (ROOT / "docs/extending.md").read_text(), re.S
    )
    for name, text in blocks:
        if name == "pyproject.toml" or name.startswith("my_extension/"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text)
    (folder / "my_extension" / "__init__.py").touch()
    _pip("wheel", "--no-deps", "--no-build-isolation", "-w", folder, folder)
    _install(installed, next(folder.glob("*.whl")))


@pytest.mark.usefixtures("extension")
def test_members_of_another_package_do_their_work_in_every_stage(vsp, forked, work):
    (work / "images").mkdir()
    lines = []
    for i in range(40):
        first, second = ("red", "blue") if i % 2 else ("blue", "red")
        picture = Image.new("RGB", (64, 64), second)
        picture.paste(first, (0, 0, 32, 64))
        picture.paste("white", (i, 20, i + 4, 30 + i // 2))  # no two pictures are copies
        picture.save(work / "images" / f"{i}.png")
        lines.append(f"{i}.png\tcup\t{'left of' if i % 2 else 'right of'}\tplate\n")
    (work / "own.txt").write_text("".join(lines))
    vsp("import", "tabs", "--annotations", "own.txt", "--images", "images", "--out", "data/own")
    (work / "jobs").mkdir()
    (work / "jobs/slurm.yaml").write_text("scheduler: nice\n")
    planned = forked(
        "plan", "--model", "my-llava", "--checkpoint", CHECKPOINT, "--dataset", "data/own",
        "--prompt", "statement",
    )  # fmt: skip
    assert "my-llava" in planned
    assert "nice -n 19" in (work / "jobs/extract_array.sh").read_text()
    vsp("submit", "--stages", "extract")
    forked("probe", "--probe", "median", *QUICK)
    assert "median" in forked("report")
    (row, *_) = (work / "scratch/my-llava-own/manifest.jsonl").read_text().splitlines()
    assert json.loads(row)["prompt"].startswith("The spatial relationship of cup to plate")
