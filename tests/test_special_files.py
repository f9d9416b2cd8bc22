"""Named pipes, devices, folders and huge files in place of every file that vsp reads.

Each command succeeds, or ends with an error of one line, within 10 seconds and 2 GB.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from helpers.limited import Runner

from vsp.datasets.synthetic.generate import generate, read_config, written_to

TABLE = "image,subject,reference,relation\na.png,cup,plate,left of\nb.png,cup,plate,right of\n"
RUN = ("--run", "run")
QUICK = ("--n-jobs", "1", "--probe", "centroid", "--permutations", "0", "--controls", "0",
         "--resamples", "100", "--no-curve", "--no-random")  # fmt: skip
PROBE = ("probe", *RUN, *QUICK)
PLAN = ("plan", "--model", "fake", "--dataset", "data/own", "--run", "again")
SHOW = ("dataset", "show", "data/own", "--n", "4")
IMPORT = ("import", "csv", "--annotations", "rows.csv", "--images", "pictures", "--out", "data/new",
          "--relations", "words.yaml", "--check")  # fmt: skip
STORED = (("status", *RUN), ("extract", *RUN), ("verify", *RUN), PROBE)
RESULTS = (("report", *RUN), ("compare", "run", "other"), PROBE)

# File → the commands that read it.
FILES = {
    "configs/own_dataset.yaml": [("generate", "--config", "own")],
    "configs/models/own.yaml": [("models",), ("plan", "--model", "own", "--dataset", "data/own")],
    "jobs/slurm.yaml": [("submit", *RUN, "--dry-run"), ("status", *RUN), ("resume", *RUN, "--dry-run")],
    "words.yaml": [IMPORT],
    "rows.csv": [IMPORT],
    "pictures/a.png": [IMPORT],
    "data/own/metadata.json": [PLAN, SHOW],
    "data/own/dataset.json": [PLAN, SHOW],
    "data/own/funnel.json": [SHOW],
    "data/own/images/*": [PLAN, SHOW],
    "scratch/run/plan.json": [*STORED, ("submit", *RUN, "--dry-run"), ("report", *RUN)],
    "scratch/run/manifest.jsonl": list(STORED),
    "scratch/run/states.npy": list(STORED),
    "scratch/run/journal/*": list(STORED),
    "results/run/*/summary.json": list(RESULTS),
    "results/run/*/scores.jsonl": list(RESULTS),
    "results/run/*/predictions.npz": list(RESULTS),
    "results/run/*/estimates.npz": list(RESULTS),
    "results/run/*/probes/001.npz": list(RESULTS),
    "results/run/*/probes/card.json": list(RESULTS),
}  # fmt: skip
KINDS = ["pipe", "link to /dev/zero", "folder", "200 GB", "empty", "link to itself"]


FUNNEL = {"labels": [], "parts": [], "splits": {}, "other_relations": {}}

# Modules that the commands import. They are imported once, and the commands are forked.
IMPORTED = ("sklearn.linear_model", "scipy.sparse", "joblib", "PIL.Image", "rich.table",
            "matplotlib.font_manager", "huggingface_hub.file_download", "vsp.extraction.plan",
            "vsp.extraction.extract", "vsp.extraction.verify", "vsp.evaluation.probe_run",
            "vsp.evaluation.compare", "vsp.reporting.probe_report", "vsp.reporting.comparison",
            "vsp.reporting.status_page", "vsp.datasets.importers.pipeline", "vsp.datasets.summary",
            "vsp.datasets.synthetic.generate", "vsp.cluster.run_jobs", "vsp.cluster.status",
            "vsp.models.catalog", "vsp.models.supported")  # fmt: skip


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("special")
    for part in ("configs/models", "jobs"):
        (folder / part).mkdir(parents=True)
    config = folder / "configs/own_dataset.yaml"
    config.write_text("task: spatial\nn_samples: 40\nseed: 7\noutput: data/new\n")
    generate(written_to(read_config(config), folder / "data/own"), n_jobs=1)
    (folder / "rows.csv").write_text(TABLE)
    (folder / "pictures").mkdir()
    for name in ("a.png", "b.png"):
        shutil.copy(next((folder / "data/own/images").iterdir()), folder / "pictures" / name)
    (folder / "data/own/funnel.json").write_text(json.dumps(FUNNEL))
    (folder / "words.yaml").write_text("left_of: [left of]\nright_of: [right of]\n")
    (folder / "configs/models/own.yaml").write_text("family: fake\n")
    config.write_text("task: spatial\nn_samples: 4\nseed: 1\noutput: data/new\n")
    (folder / "jobs/slurm.yaml").write_text("scheduler: local\n")
    return folder


@pytest.fixture(scope="module")
def runner(work):
    runner = Runner(work, IMPORTED)
    for name in ("run", "other"):
        plan = ("plan", "--model", "fake", "--dataset", "data/own", "--run", name)
        for command in (plan, ("extract", "--run", name), ("probe", "--run", name, *QUICK)):
            ended = runner.run(*command)
            assert ended.code == 0, ended
    yield runner
    runner.close()


def _replace(path: Path, kind: str) -> None:
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind.startswith("link"):
        path.symlink_to(path if kind.endswith("itself") else "/dev/zero")
    else:
        with path.open("wb") as file:
            file.truncate(200 * 10**9 if kind == "200 GB" else 0)


def _restore(path: Path, aside: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside.rename(path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FILES)
def test_a_strange_file_is_answered_in_bounded_time_and_memory(runner, work, tmp_path, name, kind):
    path = next(work.glob(name))
    for number, command in enumerate(FILES[name]):
        aside, kept = tmp_path / f"aside{number}", tmp_path / f"kept{number}"
        if command is PROBE:  # the only one that writes there
            shutil.copytree(work / "results", kept)
        path.rename(aside)
        shutil.copy(aside, path)
        _replace(path, kind)
        try:
            ended = runner.run(*command)
        finally:
            _restore(path, aside)
            shutil.rmtree(work / "data/new", ignore_errors=True)
            shutil.rmtree(work / "scratch/again", ignore_errors=True)
            if command is PROBE:
                shutil.rmtree(work / "results")
                shutil.copytree(kept, work / "results")
        ended.assert_answer_or_one_line()
