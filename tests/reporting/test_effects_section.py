"""Effects in the page, in reports and in the file that keeps them."""

import json
import re

import numpy as np
import pytest
from helpers.page_results import rich_results
from helpers.planted_effects import (
    EffectWorld,
    erasing,
    found_effects,
    patched,
    steering,
)
from helpers.terminals import printed

from vsp.errors import ConfigError, RunError
from vsp.evaluation.verdict_evidence import StudyVerdict, VerdictSettings
from vsp.evaluation.verdict_use import uses_of
from vsp.reporting.effects_page import effects_csv, effects_page, effects_page_json, effects_table
from vsp.reporting.effects_plot import plot_effects
from vsp.reporting.effects_words import effects_cautions, effects_sentence, verdict_word
from vsp.reporting.figure_file import FigureStyle
from vsp.reporting.page.effects_section import effects_of_runs, effects_section
from vsp.reporting.page.page_run import read_page_run
from vsp.reporting.probe_report import report_json, report_page
from vsp.reporting.table_files import latex_table, markdown_table
from vsp.reporting.verdict_page import use_sentences
from vsp.storage.found_effects import ERASE, PATCH, effects_file, read_effects, write_effects
from vsp.storage.sealed_summary import identity_of
from vsp.utils.files import json_sha256

HOSTILE = "<img src=x onerror=alert(1)>\x1b[31m"


@pytest.fixture(scope="module")
def used():
    return found_effects(EffectWorld((0.0, 0.4, 0.4)))


@pytest.fixture(scope="module")
def unused():
    return found_effects(EffectWorld((0.0, 0.0)), run="one-null")


@pytest.fixture(scope="module")
def of_patch():
    world = EffectWorld((0.4, 0.0), PATCH)
    return found_effects(world, patched(), run="one-patch", variant="one-mirrored", position="")


def _sealed(path, values):
    path.write_text(json.dumps({"format": 1, **values, "sha256": json_sha256(values)}))


def test_the_answer_says_where_the_direction_beats_the_random_ones(used, unused, of_patch):
    assert effects_sentence(used).startswith(
        "Adding the direction at layers 1–2 moves the answer towards the target more than all 20 random "
        "directions"
    )
    assert effects_sentence(used).endswith(" Used.") and verdict_word(used) == "used"
    assert re.search(
        r"flips up to \d+% \[\d+, \d+\] of the answers \(layer \d, scale 2\)",
        effects_sentence(used),
    )
    assert effects_sentence(unused) == (
        "No layer moves the answer towards the target more than 20 random directions at corrected p < 0.05 "
        "when the direction is added. Not shown to be used."
    )
    assert "moves the answer towards its label: last token at layer 0" in effects_sentence(of_patch)
    assert verdict_word(of_patch) == ""


def test_too_few_controls_or_groups_are_said():
    few = found_effects(EffectWorld((0.4,)), steering((1.0,), n_random=5))
    assert effects_sentence(few) == (
        "Not tested against random directions: p < 0.05 needs 20 of them, and there are 5. Not shown to be "
        "used."
    )
    one = found_effects(EffectWorld((0.4,), n_groups=1, per_group=20), steering((1.0,)))
    assert effects_cautions(one) == [
        "all rows are in one group, so there is no interval and no test"
    ]
    assert "needs 6 groups of rows, and there are 1" in effects_sentence(one)


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_no_figure_is_cut_at_any_width(used, of_patch, width):
    for found in (used, of_patch):
        page = printed(effects_page(found), width)
        assert "…" not in page and max(map(len, page.splitlines())) <= width
    page = printed(effects_page(used), width)
    row = next(line for line in page.splitlines() if line.split()[:1] == ["1"])
    best = max(i for i in used.tested if used.settings[i].scale == 2.0)
    assert row.split()[1] == f"{used.figures.change[1, best]:+.3f}*"


def test_all_scales_can_be_shown_and_another_is_refused(used):
    assert "direction × 0.5:" in printed(effects_page(used, 0.5), 80)
    with pytest.raises(ConfigError, match=r"--scale 3: was not computed; choose from 0.5, 1, 2"):
        effects_page(used, 3.0)


def test_csv_and_json_have_every_layer_and_setting(used):
    lines = b"".join(effects_csv(used)).decode().splitlines()
    assert len(lines) == 1 + 3 * len(used.settings)
    values = effects_page_json(used)
    assert values["verdict"] == "used" and values["answer"] == effects_sentence(used)
    assert np.shape(values["figures"]["change"]) == (3, len(used.settings))


def test_tables_for_papers_have_the_shown_scale(used, of_patch):
    assert "change, direction × 2" in markdown_table(effects_table(used))
    assert "flips, all tokens" in latex_table(effects_table(of_patch))


@pytest.mark.parametrize("kind", ["dose", "layers", "map"])
def test_figures_are_drawn_where_they_fit(tmp_path, used, of_patch, kind):
    path = tmp_path / "a.svg"
    for found, fits in ((used, kind != "map"), (of_patch, kind != "dose")):
        if fits:
            plot_effects(found, path, FigureStyle(), kind, None)
            assert "layer" in path.read_text()
        else:
            with pytest.raises(ConfigError, match=f"--figure {kind}: does not fit"):
                plot_effects(found, path, FigureStyle(), kind, None)


def test_the_tables_of_the_page_have_the_figures_of_the_file(tmp_path, used, of_patch):
    write_effects(used, tmp_path)
    read = read_effects(tmp_path)
    assert effects_page_json(read) == effects_page_json(used)
    layers, dose = effects_section([read]).charts
    shown = [i for i, one in enumerate(used.settings) if not one.is_random]
    assert [row[3] for row in layers.table.rows] == used.figures.change[:, shown].T.ravel().tolist()
    assert [row[6] for row in layers.table.rows] == used.figures.flip[:, shown].T.ravel().tolist()
    assert len(dose.table.rows) == 3 * 4
    (drawn,) = effects_section([of_patch]).charts
    assert [row[3] for row in drawn.table.rows] == of_patch.figures.change.T.ravel().tolist()
    assert effects_section([]) is None


def test_several_runs_have_a_list_and_erasures_a_chart(used, unused):
    erased = found_effects(EffectWorld((0.2,), ERASE), erasing(), run="one-erase")
    section = effects_section([used, unused, erased])
    assert all(chart.controls[0].parameter == "of" for chart in section.charts)
    assert "one-erase: " in section.body_html


def test_hostile_names_stay_text(tmp_path, used):
    path = write_effects(used, tmp_path)
    values = json.loads(path.read_text())
    del values["sha256"], values["format"]
    values["of_run"], values["left_out"] = HOSTILE, {HOSTILE: 2}
    values["settings"][1]["name"] = HOSTILE
    _sealed(path, values)
    found = read_effects(tmp_path)
    section = effects_section([found], [HOSTILE])
    assert "<img" not in section.body_html and "&lt;img" in section.body_html
    assert "\x1b" not in printed(effects_page(found), 80)


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values.pop("layers"),
        lambda values: values.update(layers=[]),
        lambda values: values["figures"].update(change=[[0.1]]),
        lambda values: values["figures"].pop("rank"),
        lambda values: values.update(figures="many"),
        lambda values: values.update(settings=[{"name": "a"}]),
        lambda values: values.update(kind="other"),
        lambda values: values.update(n_rows="ten"),
        lambda values: values.update(left_out=[1]),
    ],
)
def test_a_sealed_file_with_other_values_is_refused(tmp_path, used, change):
    path = write_effects(used, tmp_path)
    values = json.loads(path.read_text())
    del values["sha256"], values["format"]
    change(values)
    _sealed(path, values)
    with pytest.raises(RunError, match=r"does not hold effects; run `vsp effects .*` again"):
        read_effects(tmp_path)


def test_an_edited_file_is_refused(tmp_path, used):
    path = write_effects(used, tmp_path)
    path.write_text(path.read_text().replace('"n_rows": 120', '"n_rows": 121'))
    with pytest.raises(RunError, match="was edited; run `vsp effects"):
        read_effects(tmp_path)
    path.write_text("{")
    with pytest.raises(RunError, match="is not JSON"):
        read_effects(tmp_path)


def _with_effects(work, found, of_identity=None):
    results = rich_results(work / "results" / "one")
    summary, _ = results.read()
    identity = identity_of(summary) if of_identity is None else of_identity
    home = work / "results" / found.run
    path = write_effects(found, home)
    values = json.loads(path.read_text())
    del values["sha256"], values["format"]
    values["of_identity"] = identity
    _sealed(path, values)
    return results


def test_the_report_of_a_run_says_what_its_effects_show(tmp_path, used):
    results = _with_effects(tmp_path, used)
    page = " ".join(printed(report_page(results), 200).split())
    assert f"one-steer: {effects_sentence(used)[:60]}" in page
    (of_json,) = report_json(results)["effects"]
    assert of_json["verdict"] == "used" and of_json["run"] == "one-steer"
    found, problems = effects_of_runs([read_page_run("one", results)])
    assert [one.run for one in found] == ["one-steer"] and not problems


def test_effects_of_an_earlier_plan_or_damaged_ones_are_marked(tmp_path, used, unused):
    results = _with_effects(tmp_path, used, "0" * 64)
    effects_file(tmp_path / "results" / "broken").parent.mkdir()
    effects_file(tmp_path / "results" / "broken").write_text("{")
    page = " ".join(printed(report_page(results), 200).split())
    assert "effects of one-steer: stale: they are about an earlier plan of one" in page
    assert "broken/effects.json: is not JSON" in page
    assert report_json(results)["effects"] == []


def test_the_verdict_of_a_study_gains_the_use(used, unused, of_patch):
    def verdict(*effects):
        return StudyVerdict(
            "one", "accuracy", "logistic", (1,), VerdictSettings(), (), uses=uses_of(effects)
        )

    assert verdict().use is None and use_sentences(verdict()) == []
    assert verdict(of_patch).use is None
    assert verdict(unused).use == "not shown to be used"
    assert use_sentences(verdict(unused)) == [
        "It is not shown to be used: no layer of one-null beats the random controls."
    ]
    assert verdict(unused, used).use == "used"
    assert use_sentences(verdict(unused, used)) == [
        "It is used: adding the direction at layers 1–2 moves the answers more than random controls."
    ]
