import numpy as np
import pytest

from vsp.errors import ProbeError
from vsp.evaluation.probe_run import probe_run
from vsp.evaluation.probe_settings import ProbeSettings
from vsp.extraction.extract import extract
from vsp.reporting.probe_report import report_json, report_page

_FEW = {
    "permutations": 3,
    "controls": 0,
    "resamples": 50,
    "curve": False,
    "random": False,
    "folds": 3,
    "strengths": (0.01, 1.0),
}


@pytest.fixture
def named_run(plan_fake, write_dataset):
    """Plan and extract rows that name two objects, or none."""

    def make(has_names=True, name="named"):
        rng = np.random.default_rng(0)
        records = []
        for i in range(90):
            names = dict(zip(("subject", "reference"), rng.choice(list("abcdef"), 2), strict=True))
            records.append({
                "id": f"{i}", "image_filename": "all.png", "label": "lr"[i % 2], "group": f"g{i // 2}",
                "prompt": "{subject}, {reference}?".format(**names), **(names if has_names else {}),
            })  # fmt: skip
        run = plan_fake(write_dataset(records, name), options={"n_layers": 2}, name=name)
        extract(run, run.shards)
        return run

    return make


def test_a_run_is_split_by_pairs_and_its_report_says_so(named_run):
    run = named_run()
    by_image = probe_run(run, ProbeSettings(**_FEW), 1).summary()
    results = probe_run(run, ProbeSettings(split_by="pairs", **_FEW), 1)
    summary = results.summary()
    assert by_image["split"] == "3 folds by group, 2 times"
    assert summary["split"] == "3 folds by name pair, 2 times"
    assert {"look-up", "names", "words", "words alone"} <= summary["baselines"].keys()
    samples, arrays = run.all_samples(), results.arrays("predictions")
    assert arrays["group"].tolist() == [f"{one.subject}\n{one.reference}" for one in samples]
    assert summary["n_groups"] == len(set(arrays["group"].tolist())) != by_image["n_groups"]
    assert report_json(results)["split_by"] == "pairs" and report_page(results)


def test_a_run_without_names_is_not_split_by_them(named_run):
    run = named_run(has_names=False, name="nameless")
    with pytest.raises(ProbeError, match=r"--split-by pairs: 90 of 90 rows name no subject;"):
        probe_run(run, ProbeSettings(split_by="pairs", **_FEW), 1)
    baselines = probe_run(run, ProbeSettings(**_FEW), 1).summary()["baselines"]
    assert "words" in baselines and not {"names", "boxes"} & baselines.keys()
