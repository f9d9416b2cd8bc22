"""Fixtures that many tests share: a small dataset, a small checkpoint, a working folder."""

from __future__ import annotations

import gc
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.commands import run_here
from PIL import Image

from vsp import models
from vsp.extraction.plan import PlanRequest, plan_run
from vsp.storage.run import Run

# A shell that starts tests in the background, or nohup, leaves these signals ignored.
for _number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(
            _number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL
        )

# No test may use a network: everything that is loaded is on this disk.
os.environ["HF_HUB_OFFLINE"] = "1"

# Each worker process of a command imports everything again, and test processes fill the cores
# already. Tests of workers ask for them with --n-jobs.
os.environ["VSP_N_JOBS"] = "1"


# The files that take longest, in this order. Each runs in one process: if one of these started
# last, the other processes would wait for it. Those on a cluster mostly wait, so that files that
# compute run beside them.
_LONG = (
    "test_demo.py",
    "cluster/test_slurm_faults.py",
    "cluster/test_submit.py",
    "cluster/test_study_on_slurm.py",
    "evaluation/test_probe_run.py",
    "cli/test_interrupts.py",
    "cluster/test_slurm.py",
    "models/test_supported.py",
    "cluster/test_requeue.py",
    "cluster/test_working_folder.py",
    "journeys/test_journey_6_slurm.py",
    "cli/test_cli.py",
    "demo_training/test_training.py",
    "extraction/test_faults.py",
    "models/test_catalog.py",
    "test_package.py",
    "cli/test_whole_study.py",
    "evaluation/test_evaluate.py",
    "test_small_model.py",
    "extraction/test_bench.py",
    "cli/test_hostile_text.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of long files first; with `--no-loadscope-reorder` xdist keeps this order."""
    place = {Path(__file__).parent / name: i for i, name in enumerate(_LONG)}
    items.sort(key=lambda item: place.get(item.path, len(_LONG)))


@pytest.fixture(autouse=True, scope="module")
def _few_objects_are_searched_for_garbage() -> None:
    """Modules stay, so the collector need not visit their objects each time: libraries call it often."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _no_log_printer() -> Iterator[None]:
    """A command that runs in this process prints log messages; later tests must not see them twice."""
    yield
    logger = logging.getLogger("vsp")
    for handler in list(logger.handlers):
        if type(handler).__module__ == "vsp.cli.log_messages":
            logger.removeHandler(handler)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small LLaVA checkpoint, written once."""
    from vsp.demo_checkpoint import write_checkpoint

    folder = tmp_path_factory.mktemp("checkpoint") / "small-llava"
    write_checkpoint(folder)
    return folder


@pytest.fixture(scope="session")
def spatial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spatial dataset of 96 samples."""
    from vsp.datasets.synthetic.generate import generate, read_config

    base = tmp_path_factory.mktemp("spatial")
    config = base / "spatial.yaml"
    config.write_text(
        f"task: spatial\nn_samples: 96\nseed: 7\noutput: {base}/spatial\nsplits: {base}/splits\n"
    )
    generate(read_config(config), n_jobs=1)
    return base / "spatial"


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder; the test runs in it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def plan_fake(work: Path, spatial: Path) -> Callable[..., Run]:
    """Plan a run of the fake model: `plan_fake(n_shards=3, options={...}, ...)`."""

    def plan(dataset: Path = spatial, options: dict | None = None, **changes: object) -> Run:
        model = models.resolve("fake", options=options)
        return plan_run(PlanRequest(dataset, model, **changes), work).run

    return plan


@pytest.fixture
def vsp(work: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a vsp command with the output and exit code that a user has, in this process."""
    return lambda *arguments: run_here(arguments, work)


@pytest.fixture
def vsp_process(work: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a vsp command in a separate process: libraries read some variables when imported."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "vsp", *map(str, arguments)]
        return subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=240)

    return run


@pytest.fixture
def write_dataset(tmp_path: Path) -> Callable[..., Path]:
    """Write a dataset folder from records, with a random picture for each image name."""

    def write(records: list[dict], name: str = "own") -> Path:
        folder = tmp_path / name
        (folder / "images").mkdir(parents=True)
        rng = np.random.default_rng(0)
        for file in sorted({record["image_filename"] for record in records}):
            pixels = rng.integers(0, 256, (12, 12, 3), np.uint8)
            Image.fromarray(pixels).save(folder / "images" / file)
        (folder / "metadata.json").write_text(json.dumps(records))
        return folder

    return write
