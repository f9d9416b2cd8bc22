"""`vsp report --by FIELD` on a run of a real dataset folder: page, JSON, and what is refused."""

from __future__ import annotations

import json
import shutil

import numpy as np

from vsp.storage.find_results import find_results

QUICK = ("--folds", 2, "--repeats", 1, "--permutations", 0, "--controls", 0, "--resamples", 60,
         "--grid", 1, "--no-curve", "--no-random", "--no-words", "--n-jobs", 1)  # fmt: skip


def test_the_page_and_the_json_have_the_strata_and_bad_fields_are_refused(
    plan_fake, spatial, tmp_path_factory, work, vsp
):
    dataset = tmp_path_factory.mktemp("data") / "spatial"
    shutil.copytree(spatial, dataset)
    plan_fake(dataset, name="r", options={"n_layers": 2, "hidden_size": 4})
    for command in (("extract", "--workers", 0), ("probe", *QUICK)):
        answer = vsp(*command)
        assert answer.returncode == 0, answer.stderr

    def report(*options):
        return vsp("report", "r", *options)

    page = report("--by", "language")  # of no record of this world
    assert page.returncode == 1
    assert "field 'language' is not known" in page.stderr
    assert "did you mean subject_shape" in report("--by", "subject_shap").stderr
    assert "use --json" in report("--by", "subject_shape", "--csv", "t.csv").stderr
    assert "--study NAME" in report("--margin", "0.1").stderr
    page = report("--by", "box-cue")
    assert page.returncode == 0, page.stderr
    assert "a rule of boxes gives" in " ".join(page.stdout.split())
    found = json.loads(report("--by", "box-cue", "--json").stdout)["by"]
    arrays = find_results("r", work).arrays("predictions")
    tested = (arrays["outer"] >= 0).all(axis=0)
    # In this world, a label is what the boxes say.
    assert [(one["name"], one["n_rows"]) for one in found["strata"]] == [
        ("consistent", int(tested.sum()))
    ]
    names = np.append(arrays["answer_names"], "")
    said = names[np.where(arrays["answer"] >= 0, arrays["answer"], -1)]
    right = (said == arrays["label"])[tested & ~np.isnan(arrays["answer_margin"])]
    (only,) = found["strata"]
    assert only["says"]["value"] == right.mean()
    assert f"{only['knows']['value']:.3f}" in page.stdout
    assert "All rows are in one stratum" in page.stdout
    assert found["source"] == str(dataset)
    shutil.rmtree(dataset)
    found = json.loads(report("--by", "box-cue", "--json").stdout)["by"]
    assert found["source"] == "run r"
    assert found["strata"][0]["n_rows"] == int(tested.sum())
