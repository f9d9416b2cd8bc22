"""One picture under two names: noise pictures with random labels, planned as a user plans them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import truth_figures as figures
from PIL import Image
from truth_figures import Line, known, mean, share
from truth_planted import PLAIN
from truth_runs import work_folder

from vsp import models
from vsp.errors import VspError
from vsp.evaluation.probe_run import probe_run
from vsp.extraction.extract import extract
from vsp.extraction.plan import PlanRequest, plan_run

_PICTURES = 90


def copies(seed: int, resized: bool) -> dict[str, Any]:
    """The score, or the message of the command that refuses the dataset."""
    rng = np.random.default_rng(seed)
    with work_folder() as work:
        _write(work / "data", rng, resized)
        try:
            model = models.resolve("fake", options={"hidden_size": 256, "n_layers": 2})
            run = plan_run(PlanRequest(work / "data", model, name="run"), work).run
            extract(run, run.shards)
            summary, scores = probe_run(run, replace(PLAIN, permutations=39, seed=seed), 1).read()
        except VspError as error:
            return {"refused": str(error)}
    return {"score": figures.fixed_score(summary, scores), "p": figures.p_any(summary, scores)}


def _write(folder: Path, rng: np.random.Generator, resized: bool) -> None:
    (folder / "images").mkdir(parents=True)
    records = []
    for i in range(_PICTURES):
        picture = Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8))
        picture = picture.resize((64, 64), Image.Resampling.BICUBIC)
        label = "ab"[int(rng.integers(2))]
        for name in "xy":
            file = f"{name}{i:03d}.png"
            copy = picture.resize((48, 48)) if resized and name == "y" else picture
            copy.save(folder / "images" / file)
            records.append({"id": file, "image_filename": file, "label": label, "prompt": "Where?"})
    (folder / "metadata.json").write_text(json.dumps(records))


def lines(resized: bool, found: Sequence[dict[str, Any]]) -> list[Line]:
    world = f"{_PICTURES} noise pictures, each twice" + (", one resized" if resized else "")
    score, refused = known(found, "score"), known(found, "refused")
    table = [Line(world, "refused", "", share([bool(one.get("refused")) for one in found]))] if refused else []  # fmt: skip
    if score:
        table.append(Line(world, "accuracy", "0.5", mean([one.value for one in score])))
        table.append(Line(world, "p corrected", "above .05", mean(known(found, "p"))))
    return table
