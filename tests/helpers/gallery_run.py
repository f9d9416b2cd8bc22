"""A probed run with pictures, boxes, answers and texts that a page must show as text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from helpers.stored_runs import LIGHT
from PIL import Image

from vsp import models
from vsp.evaluation.probe_run import probe_run
from vsp.evaluation.probe_settings import ProbeSettings
from vsp.extraction.extract import extract
from vsp.extraction.plan import PlanRequest, plan_run
from vsp.storage.results import Results

BREAKS = "</script><script>window.broken = 1</script>"
LABELS = ("left_of", "right_of", BREAKS)
N_ROWS = 48
# Ids that mean something in an address, in HTML or in a path, and names of every object.
ODD_IDS = (
    "a b", "#row=1", "%41", "100%", "x&y=z", "ü/é", BREAKS, "a'b\"c", "__proto__", "constructor", "?",
    "<img src=x onerror=window.broken=1>", "\u202egnp", "../../etc/passwd",
)  # fmt: skip
GONE, CHANGED, ODD_NAME = "gone.png", "changed.png", "<b onmouseover=window.broken=1>"


def gallery_run(
    work: Path, n_rows: int = N_ROWS, name: str = "looked", first: int = 0, seed: int = 0
) -> Results:
    """Results in `work / "results" / name`; one picture is gone since, and one was changed.

    Another `seed` draws other pictures of the same rows. `first` leaves out the rows before it.
    """
    dataset = work / "data" / f"odd-{name}"
    (dataset / "images").mkdir(parents=True)
    rng = np.random.default_rng(seed)
    records = [_record(i, dataset, rng) for i in range(n_rows)]
    (dataset / "metadata.json").write_text(json.dumps(records[first:]))
    request = PlanRequest(dataset, models.resolve("fake"), name=name)
    run = plan_run(request, work).run
    extract(run, run.shards)
    (dataset / "images" / GONE).unlink()
    Image.new("RGB", (20, 20)).save(dataset / "images" / CHANGED)
    return probe_run(run, ProbeSettings(**{**LIGHT, "repeats": 1}), n_jobs=1)


def _record(i: int, dataset: Path, rng: np.random.Generator) -> dict[str, Any]:
    number = i % len(LABELS)
    name = {20: GONE, 21: CHANGED}.get(i, f"{i}.png")
    pixels = rng.integers(0, 256, (30, 48, 3), np.uint8)
    if rng.random() < 0.7:  # the other rows cannot be read
        pixels[:, 16 * number : 16 * (number + 1)] = 255
    Image.fromarray(pixels).save(dataset / "images" / name)
    return {
        "id": ODD_IDS[i] if i < len(ODD_IDS) else f"row_{i}",
        "image_filename": name,
        "label": LABELS[number],
        "prompt": f"Where is it? {BREAKS} {'A long question. ' * 12 if i % 2 else ''}{i}",
        "subject": ODD_NAME if i % 5 == 0 else "cup",
        "reference": "table",
        "subject_box": [2, 3, 14.5, 20],
        "reference_box": [20, 10, 47, 29],
        "scene": ("kitchen", BREAKS, "street")[i % 4 % 3],
        "crowded": i % 2 == 0,
    }
