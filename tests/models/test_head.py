"""A checkpoint without the head that predicts tokens gives states; the plan says that answers are missing."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import tiny
from safetensors.torch import load_file, save_file

from vsp import models
from vsp.errors import ModelError
from vsp.extraction.plan import PlanRequest, plan_run

RGPT = Path(__file__).parent / "spatialrgpt/ckpt"


def _rewritten(source, folder, change, part="."):
    """A copy of a checkpoint with another head: `change(head)`; None: without."""
    shutil.copytree(source, folder)
    path = folder / part / "model.safetensors"
    weights = load_file(path)
    (name,) = (name for name in weights if "lm_head" in name.split("."))
    head = change(weights.pop(name))
    save_file({**weights, **({} if head is None else {name: head})}, path, {"format": "pt"})
    return folder


def _without(_head):
    return None


def _has_head(family, folder, **changes):
    if family == "auto":  # the demo checkpoint has no chat template
        changes["template"] = models.resolve("llava15").template
    config = models.resolve(family, checkpoint=str(folder), quantization="none", **changes)
    models.check(config)  # every weight that states depend on is there
    return models.has_head(config)


def test_each_family_finds_out_whether_a_checkpoint_has_a_head(checkpoint, tmp_path):
    qwen = tiny.write_qwen(tmp_path / "qwen", "2")
    sources = {"llava15": checkpoint, "auto": checkpoint, "qwen2": qwen, "spatialrgpt": RGPT}
    for family, source in sources.items():
        part = "llm" if family == "spatialrgpt" else "."
        lost = _rewritten(source, tmp_path / family, _without, part)
        assert _has_head(family, source) and not _has_head(family, lost), family
    assert _has_head("llava15", tmp_path / "llava15", weights="random")
    assert models.has_head(models.resolve("fake"))


def test_a_head_of_another_shape_is_none_and_one_tied_to_the_embeddings_is_one(
    checkpoint, tmp_path
):
    assert not _has_head("llava15", _rewritten(checkpoint, tmp_path / "a", lambda head: head[:-1]))
    tied = _rewritten(checkpoint, tmp_path / "b", _without)
    values = json.loads((tied / "config.json").read_text())
    values["tie_word_embeddings"] = values["text_config"]["tie_word_embeddings"] = True
    (tied / "config.json").write_text(json.dumps(values))
    assert _has_head("llava15", tied)
    model = models.read_model(models.resolve("llava15", checkpoint=str(tied), quantization="none"))
    assert np.isfinite(model._model.lm_head.weight.detach().numpy()).all()


def test_the_plan_says_that_answers_need_the_head_and_refuses_them_if_asked(
    work, spatial, checkpoint, tmp_path
):
    folder = _rewritten(checkpoint, tmp_path / "headless", _without)
    model = models.resolve("llava15", checkpoint=str(folder), quantization="none")

    def plan(**changes):
        return plan_run(PlanRequest(spatial, model, limit=8, **changes), work)

    planned = plan()
    assert planned.run.plan.answers is None
    (note,) = (note for note in planned.notes if note.startswith("answers are not stored: "))
    assert note.endswith("has no head that predicts tokens (lm_head)")
    assert not [note for note in plan(answers=False, name="second").notes if "head" in note]
    for asked in ({"answers": True}, {"lens": True}):
        with pytest.raises(
            ModelError,
            match=r"no head that predicts tokens \(lm_head\); use a whole checkpoint, or",
        ):
            plan(**asked)
