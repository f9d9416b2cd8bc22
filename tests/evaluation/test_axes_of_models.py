"""Relation axes of models: a trained model has them, and gains them in its layers; others do not."""

import numpy as np
import pytest
from helpers.paths import ROOT

from vsp import models
from vsp.datasets.apply_variant import VariantRequest, apply_variant
from vsp.datasets.synthetic.generate import generate
from vsp.datasets.synthetic.spatial import SpatialConfig
from vsp.evaluation.axes import AxesSettings, relation_axes
from vsp.extraction.extract import extract
from vsp.extraction.plan import PlanRequest, plan_run

QUICK = AxesSettings(resamples=200, flips=199)


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    """48 scenes and their swapped variant."""
    base = tmp_path_factory.mktemp("axes")
    config = SpatialConfig(
        task="spatial", n_samples=48, seed=11, output=str(base / "d"), splits=str(base / "s")
    )
    generate(config, n_jobs=1)
    apply_variant(VariantRequest(base / "d", "swapped", base / "swapped"), n_jobs=1)
    return base / "d", base / "swapped"


def _axes(datasets, work, model):
    runs = [
        plan_run(PlanRequest(dataset, model, name=name), work).run
        for dataset, name in zip(datasets, ("one", "twin"), strict=True)
    ]
    for run in runs:
        extract(run, run.shards)
    return relation_axes(*runs, settings=QUICK)[0]


def _small(weights):
    config = models.resolve("llava15", checkpoint=str(ROOT / "data/models/small-llava"))
    return config.model_copy(update={"weights": weights, "dtype": "float32"})


def test_the_trained_model_gains_coherent_axes_in_its_layers(datasets, work):
    axes = _axes(datasets, work, _small("checkpoint"))
    assert [axis.first for axis in axes.axes] == ["left_of", "above"] and axes.n_rows == 48
    assert (axes.n_equal[0] == 24).all()  # the embedding of the last token is the same in all rows
    early, late = axes.coherence[1:3], axes.coherence[4:]
    assert (early < 0.15).all() and (late > 0.8).all()
    assert (axes.between_labels[-1] > 0.8).all() and (axes.p_corrected[-1] < 0.05).all()
    assert abs(axes.cosine[-1, 0, 1]) < 0.3


@pytest.mark.parametrize("family", ["fake", "untrained"])
def test_weights_without_training_have_no_coherent_axis(datasets, work, family):
    model = models.resolve("fake") if family == "fake" else _small("random")
    axes = _axes(datasets, work, model)
    assert np.nanmax(np.abs(axes.coherence)) < 0.1
    assert (axes.p_corrected[1:] > 0.05).all()
