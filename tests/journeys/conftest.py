"""A project folder with probed runs, made once by the commands that a user types."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.commands import run_here

QUICK = (
    "--permutations",
    "20",
    "--controls",
    "1",
    "--resamples",
    "200",
    "--no-curve",
    "--n-jobs",
    "1",
)
DATASET = "task: spatial\nn_samples: 96\nseed: 7\noutput: data/raw/demo\nsplits: data/splits\n"


@pytest.fixture(scope="session")
def made_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the dataset data/raw/demo and the probed runs fake-demo and fake-demo-question."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "configs").mkdir()
    (folder / "configs/demo_dataset.yaml").write_text(DATASET)
    (folder / "jobs").mkdir()
    (folder / "jobs/slurm.yaml").write_text("scheduler: local\n")
    plan = ("plan", "--model", "fake", "--dataset", "data/raw/demo", "--option", "n_layers=3")
    for words in (
        ("generate", "--config", "demo", "--n-jobs", "1"),
        plan,
        ("extract", "fake-demo"),
        ("probe", "fake-demo", *QUICK),
        (*plan, "--prompt", "question"),
        ("extract", "fake-demo-question"),
        ("probe", "fake-demo-question", *QUICK),
    ):
        done = run_here(words, folder)
        assert done.returncode == 0, f"{words}: {done.stderr}"
    return folder


@pytest.fixture
def project(made_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the journey as working folder; the end of a test undoes its changes."""
    kept = tmp_path / "kept"
    shutil.copytree(made_project, kept)
    monkeypatch.chdir(made_project)
    yield made_project
    for path in made_project.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copytree(kept, made_project, dirs_exist_ok=True)
