"""The untrained model on the same rows is a baseline of plan, probe, report and plot."""

import json
import os
import shlex
import shutil

import numpy as np
import pytest
from helpers.made import accuracies, made, plan, predictions

from vsp.cli.main import main
from vsp.errors import ModelError
from vsp.evaluation.probe_run import probe_run
from vsp.evaluation.probe_settings import ProbeSettings
from vsp.extraction.extract import extract
from vsp.models import read_model, resolve
from vsp.reporting.curve_plot import plot
from vsp.reporting.untrained import read_untrained
from vsp.storage.run import Run
from vsp.storage.untrained import find_untrained, is_untrained


def _plan(name, weights="checkpoint", **changes):
    one = plan(name, 13)
    model = one.model.model_copy(update={"weights": weights, "family": "llava15"})
    return one.model_copy(update={"model": model, **changes})


def _made(folder, weights, made_plan=None, arrays=None, **changes):
    made_plan = made_plan or _plan(folder.name, weights)
    values = {"plan": made_plan.model_dump(mode="json"), "identity": made_plan.identity()}
    arrays = arrays or predictions(accuracies(13))
    return made(folder, arrays=arrays, **values, **changes)


def _both(tmp_path, **changes):
    """Results of a run, and those of its untrained model, which differ from them by `changes`."""
    trained = _made(tmp_path / "results/run", "checkpoint")
    low = predictions(np.full(13, 0.3))
    untrained = _made(tmp_path / "results/other", "random", **{"arrays": low, **changes})
    return trained, untrained


def _report(results, capsys):
    assert main(["report", "--run", str(results.folder)]) == 0
    return capsys.readouterr().out


def test_report_and_plot_show_the_untrained_model(tmp_path, capsys):
    trained, untrained = _both(tmp_path)
    summary, of_layers = untrained.read()
    page = _report(trained, capsys)
    assert " untr. select " in page and "random weights, other." in page
    assert all(f" {score.score:.3f} " in page for score in of_layers)
    peak = summary["peak"]
    assert f"untrained model      {peak['estimate']:.3f}  [{peak['low']:.3f}" in page
    plot(trained, tmp_path / "a.svg")
    assert "untrained model" in (tmp_path / "a.svg").read_text()
    main(["report", "--run", str(trained.folder), "--json"])
    found = json.loads(capsys.readouterr().out)["untrained_model"]
    assert found["name"] == "other" and found["score"]["3"] == of_layers[3].score
    assert "untrained" not in _report(untrained, capsys).replace("results/other", "")


def test_a_report_without_an_untrained_model_has_no_column(tmp_path, capsys):
    trained = _made(tmp_path / "results/run", "checkpoint")
    assert "untrained" not in _report(trained, capsys)
    gone = _made(tmp_path / "results/gone", "checkpoint", untrained="other")
    assert "untrained: results/other is no longer there." in _report(gone, capsys)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"statistic": "AUC"}, "its statistic is AUC, not accuracy"),
        ({"arrays": "another split"}, "it has other rows or another split"),
        ({"probe": "lda"}, "it has another probe"),
    ],
)
def test_an_untrained_model_that_cannot_be_compared_is_named_with_the_reason(
    tmp_path, capsys, changes, why
):
    low = predictions(np.full(13, 0.3))
    if "arrays" in changes:
        changes = {"arrays": {**low, "outer": np.roll(low["outer"], 1, axis=1)}}
    if "probe" in changes:
        card = _made(tmp_path / "results/run", "checkpoint").summary()["probe"]
        changes = {"probe": {**card, "probe": "lda"}}
    trained, _ = _both(tmp_path, **changes)
    assert read_untrained(trained, trained.summary()).why_not == why
    page = _report(trained, capsys)
    assert why in " ".join(page.split()) and "untrained model" not in page


def test_a_damaged_untrained_model_is_named_with_the_reason(tmp_path):
    trained, untrained = _both(tmp_path)
    (untrained.folder / "scores.jsonl").write_text("{}")
    assert "scores.jsonl" in read_untrained(trained, trained.summary()).why_not
    (untrained.folder / "summary.json").write_text("[")
    assert read_untrained(trained, trained.summary()) is None


def test_only_random_weights_of_the_same_model_rows_and_prompt_are_the_untrained_model():
    trained, untrained = _plan("a"), _plan("b", "random")
    assert is_untrained(trained, untrained) and not is_untrained(untrained, untrained)
    assert not is_untrained(trained, trained) and not is_untrained(untrained, trained)
    other_model = untrained.model.model_copy(update={"quantization": "8bit"})
    for changes in (
        {"prompt": "question"},
        {"manifest_sha256": ("0" * 64,)},
        {"model": other_model},
    ):
        assert not is_untrained(trained, untrained.model_copy(update=changes))


def test_of_two_untrained_models_the_newest_is_shown(tmp_path):
    trained, _ = _both(tmp_path)
    newer = _plan("newer", "random", created="2999-01-01T00:00:00+00:00")
    _made(tmp_path / "results/a-newer", "random", newer)
    assert find_untrained(trained.home, "", "last", _plan("run")).name == "a-newer"


def test_of_several_settings_of_the_untrained_model_the_same_one_is_shown(tmp_path):
    trained, same = _both(tmp_path)
    another = same.home / "mass-mean"
    shutil.copytree(same.folder, another)
    newer = _plan("newer", "random", created="2999-01-01T00:00:00+00:00")
    shutil.copytree(_made(tmp_path / "results/newer", "random", newer).folder, tmp_path / "aside")
    shutil.rmtree(tmp_path / "results/newer")
    shutil.copytree(tmp_path / "aside", tmp_path / "results/newer/mass-mean")
    for seconds, folder in ((1, same.folder), (2, another)):
        os.utime(folder / "summary.json", (seconds, seconds))

    def found(setting):
        chosen = find_untrained(trained.home, setting, "last", _plan("run"))
        return chosen.folder.relative_to(tmp_path / "results").as_posix()

    assert found("logistic") == "other/logistic"  # not the newest setting, nor the newest run
    assert found("lda") == found("mass-mean") == "newer/mass-mean"
    shutil.rmtree(tmp_path / "results/newer")
    assert found("lda") == "other/mass-mean"  # written last


@pytest.mark.parametrize("family", ["fake", "spatialrgpt"])
def test_random_weights_of_a_model_that_has_none_are_refused(family):
    with pytest.raises(ModelError, match=f"model {family}: --weights random is not supported"):
        read_model(resolve(family, weights="random"))


def test_the_command_that_plan_prints_plans_the_untrained_model(work, checkpoint, spatial, capsys):
    options = ["--checkpoint", str(checkpoint), "--quantization", "none", "--limit", "8"]
    words = ["plan", "--model", "llava15", "--dataset", str(spatial), *options]
    assert main([*words, "--run", "my-run", "--weights", "checkpoint"]) == 0
    command = capsys.readouterr().out.splitlines()[-1].strip()
    assert command.count("--run") == command.count("--weights") == 1
    assert main(shlex.split(command)[1:]) == 0
    assert "--weights random" not in capsys.readouterr().out
    runs = [Run.open(work / "scratch" / name) for name in ("my-run", "my-run-untrained")]
    assert is_untrained(*(run.plan for run in runs))


def test_probe_leaves_out_random_features_if_the_untrained_model_was_probed(plan_fake):
    run = plan_fake()
    extract(run, run.shards)
    settings = ProbeSettings(permutations=0, controls=0, curve=False, strengths=(1.0,), resamples=9)
    before = probe_run(run, settings, n_jobs=1, layers=[0]).summary()
    assert "random features" in before["baselines"] and before["untrained"] == ""
    model = run.plan.model.model_copy(update={"weights": "random"})
    _made(run.results.parent / "u", "", run.plan.model_copy(update={"model": model}))
    after = probe_run(run, settings, n_jobs=1, layers=[0]).summary()
    assert "random features" not in after["baselines"] and after["untrained"] == "u"
