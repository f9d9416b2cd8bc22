"""`jobs/demo.sh` from beginning to end, and the figures that the tutorial reads."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.commands import run_here
from helpers.paths import ROOT
from helpers.real import real

# The demo takes minutes beside other tests, and a quarter of an hour on a busy machine.
pytestmark = pytest.mark.timeout(1800)

_SETTINGS = ("setup.cfg", "pyproject.toml", "jobs/constraints.txt")
# The demo calls this instead of `vsp`, so that tests are fast: fewer permutations and control tasks,
# and 400 of the 1000 rows of the color task. Scores of the other runs do not depend on it.
_VSP = """\
few="--permutations 20 --controls 1 --resamples 400 --no-curve --no-random"
case "$1 $*" in
    "probe "*) set -- "$@" $few ;;
    "plan "*data/raw/color*) set -- "$@" --limit 400 ;;
    "study "*) set -- "$@" -- $few ;;
esac
exec "{python}" -P -m vsp "$@"
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the demo needs, with the tests' environment as its installed .venv."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("jobs", "configs", "data/models"):
        shutil.copytree(
            ROOT / name, folder / name, ignore=shutil.ignore_patterns("extract_array.sh")
        )
    for name in _SETTINGS:
        shutil.copy(ROOT / name, folder / name)
    (folder / ".venv").mkdir()
    programs = folder / ".venv/bin"
    programs.mkdir()
    for name, text in (("python", 'exec "{python}" "$@"\n'), ("vsp", _VSP)):
        (programs / name).write_text("#!/usr/bin/env bash\n" + text.format(python=sys.executable))
        (programs / name).chmod(0o755)
    content = b"".join((folder / name).read_bytes() for name in _SETTINGS)
    (folder / ".venv/installed").write_text(f"{hashlib.sha256(content).hexdigest()}  -\n")
    return folder


def _demo(project: Path, *arguments: object) -> str:
    command = ["bash", str(project / "jobs/demo.sh"), *map(str, arguments)]
    answer = subprocess.run(command, capture_output=True, text=True, cwd=project)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def _report(project: Path, run: str) -> dict:
    return json.loads(run_here(("report", "--run", run, "--json"), project).stdout)


def _curve(project: Path, run: str) -> list[float]:
    return [layer["score"] for layer in _report(project, run)["layers"]]


@pytest.fixture(scope="module")
def printed(project: Path) -> str:
    return _demo(project)


def test_the_demo_ends_with_what_it_shows(printed, project):
    *_, expected, used, page, tutorial, time = printed.splitlines()
    said = " ".join(printed.split("Does the small model see how two shapes lie?")[1].split())
    assert said.startswith("What the probe reads is grounded in the picture: ")
    assert "The model's own answers are grounded in the picture: " in said
    assert "Layers 2–6 beat chance (0.250) at corrected p < 0.05." in said
    assert expected.startswith("Expected: grounded.") and "docs/tutorial.md" in tutorial
    assert (
        used.startswith("Used: ")
        and "at layers 3–6 moves the answer towards the target more" in said
    )
    assert "results/demo/report.html" in page and re.match(r"demo: \d+ s after the install", time)
    for name in ("spatial", "color"):
        assert (project / f"results/demo/{name}.png").stat().st_size > 10_000


def test_the_study_of_the_demo_is_grounded_everywhere(printed, project):
    found = json.loads(run_here(("report", "--study", "demo", "--json"), project).stdout)
    verdicts = [
        one["name"]
        for subject in found["verdict"]["subjects"]
        for one in (subject["overall"], *subject["classes"])
    ]
    assert verdicts == ["grounded"] * 10
    assert found["verdict"]["use"] == "used"
    page = (project / "results/demo/report.html").read_text()
    assert "Does the small model see how two shapes lie?" in page and str(project) not in page


def test_grey_pictures_and_random_weights_give_chance(printed, project):
    for role in ("blank", "untrained"):
        assert "No layer beats chance" in _report(project, f"demo-{role}")["answer"]


def test_the_curves_are_those_that_the_tutorial_reads(printed, project):
    """Other processors may differ in the last bits, and so in a few rows of 200."""
    text = (ROOT / "docs/tutorial.md").read_text()
    spatial, mirrored, blank = (
        _curve(project, f"demo-{n}") for n in ("original", "mirrored", "blank")
    )
    for layer, quoted in ((1, "0.315"), (2, "0.375"), (3, "0.915"), (4, "0.990"), (6, "1.000")):
        assert quoted in text
        assert spatial[layer] == pytest.approx(float(quoted), abs=0.03)
    assert spatial[0] == mirrored[0] == blank[0] == 0.25
    assert max(abs(a - b) for a, b in zip(spatial, mirrored, strict=True)) < 0.1
    assert max(blank) < 0.35
    answer = run_here(
        ("compare", "demo-original", "demo-mirrored", "demo-blank", "--json"), project
    )
    p_values = [
        [one["p_corrected"] for one in pair["layers"]] for pair in json.loads(answer.stdout)
    ]
    assert min(p_values[0]) > 0.05 and max(p_values[1][2:]) < 0.05
    # The answer can be read from the last layers, as a logit lens shows.
    lens = [layer["lens"]["score"] for layer in _report(project, "demo-original")["layers"]]
    assert lens[0] < 0.35 and lens[-1] == pytest.approx(1, abs=0.02)
    color = _report(project, "demo-color")
    scores = [layer["score"] for layer in color["layers"]]
    assert scores[0] == color["chance"] and min(scores[2:]) > 0.95


def test_the_notebook_runs_on_the_run_of_the_demo(printed, project):
    """Its code cells run as one program, in `notebooks/` as Jupyter does. Outputs are not kept in git."""
    cells = json.loads((ROOT / "notebooks/read_a_run.ipynb").read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    curve = next(cell for cell in code if any("plt." in line for line in cell["source"][3:]))
    assert len(curve["source"]) <= 10
    program = "\n".join("".join(cell["source"]) for cell in code)
    program += "\nplt.savefig('curve.png')\nprint(float(held_out), results.selected_layer, score)"
    (project / "notebooks").mkdir()
    answer = subprocess.run(
        [sys.executable, "-c", program], cwd=project / "notebooks", capture_output=True, text=True,
        env={**os.environ, "MPLBACKEND": "Agg", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    held_out, selected, score = answer.stdout.split(maxsplit=2)
    assert json.loads(score) == _curve(project, "demo-original")
    assert float(held_out) == pytest.approx(json.loads(score)[int(selected)])
    assert (project / "notebooks/curve.png").stat().st_size > 10_000


def test_the_demo_draws_no_control_of_the_color_task(printed, project):
    page = (project / "results/demo/color.txt").read_text()
    assert (
        "layer accuracy" in page
        and "select" not in page.split("\n│ chance")[0].split("layer accuracy")[1]
    )


def test_ones_own_photographs_are_used_and_a_wrong_call_is_refused(printed, project):
    said = _demo(project, "--photos", real("spatialmqa/images"))
    assert "\nLayers " in said and "needs its real\ncheckpoint" in said
    assert _curve(project, "demo-photos")[0] == 0.25
    # The tutorial and the model's card quote this figure for these eight photographs.
    selected = _report(project, "demo-photos")["peak"]["estimate"]
    assert selected == pytest.approx(0.470, abs=0.05)
    for page in ("docs/tutorial.md", "data/models/small-llava/README.md"):
        assert "0.470" in (ROOT / page).read_text()
    for wrong, words in (
        (
            ("--photos", "nowhere"),
            "demo.sh: nowhere: no such folder, or an empty one; name a folder",
        ),
        (("--pictures",), "demo.sh: use bash jobs/demo.sh [--photos DIR]"),
    ):
        command = ["bash", str(project / "jobs/demo.sh"), *wrong]
        answer = subprocess.run(command, capture_output=True, text=True, cwd=project)
        assert answer.returncode == 2 and answer.stderr.startswith(words)
