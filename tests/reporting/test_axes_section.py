"""The section of the page about relation axes, and the file that it is read from."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from helpers.page_results import rich_results
from helpers.twin_runs import direction, planted, twin_runs

from vsp.errors import RunError
from vsp.evaluation.axes import AxesSettings, relation_axes
from vsp.reporting.page.axes_section import axes_of_runs, axes_section
from vsp.reporting.page.page_run import read_page_run
from vsp.storage.axes import axes_file, read_axes, write_axes
from vsp.storage.run import find_run
from vsp.storage.sealed_summary import identity_of
from vsp.utils.files import json_sha256

SETTINGS = AxesSettings(resamples=100, flips=99)
AXES = {"above": direction(), "in_front_of": direction(np.pi * 0.9)}


@pytest.fixture
def axes(work):
    return relation_axes(*twin_runs(work, planted(AXES, (0.0, 2.0))), settings=SETTINGS)[0]


def test_the_tables_have_the_figures_of_the_axes(axes):
    section = axes_section([axes])
    coherence, cosines = (chart.table.rows for chart in section.charts)
    assert [row[3] for row in coherence] == axes.coherence.T.ravel().tolist()
    assert [row[2] for row in coherence] == [0, 1, 0, 1]
    assert cosines[0][3] is None  # layer 0 has no axis
    assert cosines[1][:1] + cosines[1][2:] == (
        "above · in front", 1, axes.cosine[1, 0, 1], axes.cosine_low[1, 0, 1], axes.cosine_high[1, 0, 1],
    )  # fmt: skip
    assert "they are entangled, above goes with behind" in section.body_html


def test_one_axis_has_no_cosines_and_no_axes_have_no_section(work):
    runs = twin_runs(work, planted({"above": direction()}, (1.0,)))
    axes, _ = relation_axes(*runs, settings=SETTINGS)
    assert [chart.key for chart in axes_section([axes]).charts] == ["axes-coherence"]
    assert axes_section([]) is None


def test_the_page_finds_the_axes_of_its_runs_and_several_have_a_list(work, axes):
    runs = [read_page_run(name, rich_results(work / "page" / name)) for name in ("a", "b", "c")]
    identity = identity_of(runs[0].summary)
    for run, name in zip(runs[:2], ("twin", "two-twin"), strict=True):
        write_axes(replace(axes, identity=identity, swapped=name), run.results.home)
    write_axes(replace(axes, swapped="of-another-plan"), runs[2].results.home)
    axes_file(runs[0].results.home, "damaged").parent.mkdir()
    axes_file(runs[0].results.home, "damaged").write_text("{")
    found, left_out = axes_of_runs(runs)
    assert [one.swapped for one in found] == ["twin", "two-twin"]
    assert [one.partition(": ")[0] for one in left_out] == [
        "page/a/axes/damaged/last.json",
        "page/c/axes/of-another-plan/last.json",
    ]
    section = axes_section(found, left_out)
    assert section.left_out == left_out and axes_section([], left_out).left_out == left_out
    assert all(chart.controls[0].parameter == "of" for chart in section.charts)
    assert len(section.charts[0].table.rows) == 8


def test_axes_do_not_join_results_of_another_plan(work, axes):
    rich_results(work / "results/one")
    with pytest.raises(RunError, match="holds results of another plan"):
        relation_axes(find_run("one", work), find_run("twin", work), settings=SETTINGS)


def test_hostile_names_stay_text(work, axes):
    path = axes_file(work / "results/one", "twin")
    values = json.loads(path.read_text())
    values["axes"][0]["first"] = "<img src=x onerror=alert(1)>"
    del values["sha256"], values["format"]
    path.write_text(json.dumps({"format": 1, **values, "sha256": json_sha256(values)}))
    section = axes_section([read_axes(work / "results/one", "twin")])
    assert "<img" not in section.body_html and "&lt;img" in section.body_html


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values.pop("layers"),
        lambda values: values.update(layers=[]),
        lambda values: values.update(coherence=[[0.1]]),
        lambda values: values.update(cosine="many"),
        lambda values: values.update(axes=[{"first": "a"}]),
        lambda values: values.update(other=1),
        lambda values: values.update(n_equal=[[10**30]]),  # larger than any number of the array
    ],
)
def test_a_sealed_file_with_other_values_is_refused(work, axes, change):
    path = axes_file(work / "results/one", "twin")
    values = json.loads(path.read_text())
    del values["sha256"], values["format"]
    change(values)
    path.write_text(json.dumps({"format": 1, **values, "sha256": json_sha256(values)}))
    with pytest.raises(
        RunError, match=re.escape("does not hold relation axes; run `vsp axes` again")
    ):
        read_axes(work / "results/one", "twin")
