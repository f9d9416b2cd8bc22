"""Only a run and its swapped twin are compared, row by row; rows without an axis are counted."""

import numpy as np
import pytest
from helpers.twin_runs import direction, planted, twin_runs

from vsp.errors import RunError
from vsp.evaluation.twins import match_twins
from vsp.extraction.extract import extract
from vsp.storage.run import Run

AXES = {"left_of": direction(), "above": direction(1.0)}


def _rows(n_rows=40, **changes):
    return planted(AXES, (1.0,), n_rows=n_rows, **changes)


def _changed(both, number, **columns):
    """The rows, with other values at the beginning of columns of the one with this number."""
    for name, values in columns.items():
        column = both[number][name].astype("U20")
        column[: len(values)] = values
        both[number][name] = column
    return both


def test_pairs_are_matched_by_id_in_any_order(work):
    one, twin = _rows()
    order = np.random.default_rng(0).permutation(40)
    twin = {n: v[:, order] if n == "states" else v[order] for n, v in twin.items()}
    run, other = twin_runs(work, (one, twin))
    twins = match_twins(run, other, "last")
    assert len(twins.row) == 40 and not twins.left_out
    np.testing.assert_array_equal(order[twins.other], twins.row)
    ids = [sample.id for sample in run.all_samples()]
    names = dict(zip(one["id"], one["label"], strict=True))
    kinds = {"left_of": 0, "right_of": 1, "above": 2, "below": 3}
    assert [kinds[names[ids[i]]] for i in twins.row] == twins.kind.tolist()
    assert (np.diff(twins.group) >= 0).all()


def test_rows_that_do_not_count_are_counted_by_reason(work):
    both = _changed(_rows(), 0, label=["between", "near", "inside"])
    both = _changed(both, 1, label=["between", "near", "inside"])
    both = _changed(both, 1, id=["", "", "", "other"])
    both[0]["label"][-1], both[1]["label"][-1] = "larger", "smaller"
    both[1]["id"][:3] = both[0]["id"][:3]
    twins = match_twins(*twin_runs(work, both), "last")
    assert twins.left_out == {
        "in one run only": 2,
        "label without an inverse": 2,
        "label that is its own inverse": 1,
        "axis in one group only": 1,
    }
    assert len(twins.row) == 35 and [axis.first for axis in twins.axes] == ["left_of", "above"]
    assert sum(axis.n_first + axis.n_second for axis in twins.axes) == 35


def test_rows_that_are_not_extracted_in_both_runs_do_not_count(spatial, swapped, work, plan_fake):
    run, other = plan_fake(n_shards=2), plan_fake(swapped)
    extract(run, run.shards[:1])
    extract(other, other.shards)
    twins = match_twins(run, other, "last")
    assert twins.left_out == {
        "not extracted in both runs": run.shards[1].stop - run.shards[1].start
    }
    assert len(twins.row) == run.shards[0].stop


def test_rows_that_share_a_group_in_either_run_are_in_one_group(work):
    both = _rows(per_group=1)
    both[1]["group"] = np.array([f"pair{i // 2}" for i in range(40)])
    twins = match_twins(*twin_runs(work, both), "last")
    assert twins.n_groups == 20


@pytest.mark.parametrize(
    ("side", "columns", "said"),
    [
        (
            1,
            {"label": ["left_of"]},
            r"row 'row0' has the labels 'left_of' and 'left_of', which are no",
        ),
        (1, {"label": ["below"]}, r"row 'row0' has the labels 'left_of' and 'below', which are no"),
        (
            1,
            {"label": ["near"]},
            "not inverses of each other; make the twin's dataset with `vsp generate",
        ),
    ],
)
def test_labels_that_are_not_inverses_are_refused(work, side, columns, said):
    with pytest.raises(RunError, match=said) as refused:
        match_twins(*twin_runs(work, _changed(_rows(), side, **columns)), "last")
    assert "\n" not in str(refused.value) and "runs one and twin: are not twins" in str(
        refused.value
    )


def test_labels_may_be_written_with_spaces(work):
    both = _rows()
    for rows in both:
        rows["label"] = np.char.replace(rows["label"], "_", " ")
    twins = match_twins(*twin_runs(work, both), "last")
    assert [axis.name for axis in twins.axes] == ["left_of/right_of", "above/below"]


def test_runs_without_a_common_id_are_refused(work):
    both = _rows()
    both[1]["id"] = np.char.add("x", both[1]["id"])
    with pytest.raises(RunError, match="have no row id in common; name a run and the run of its"):
        match_twins(*twin_runs(work, both), "last")


def test_a_run_is_not_its_own_twin(work):
    run, _ = twin_runs(work, _rows())
    with pytest.raises(RunError, match="run one: is named twice"):
        match_twins(run, run, "last")


def test_labels_without_an_axis_are_refused_with_their_counts(work):
    both = _rows()
    for rows in both:
        rows["label"] = np.array(["near", "far"])[np.arange(40) % 2]
    with pytest.raises(
        RunError, match=r"no pair of rows is left \(label that is its own inverse: 40\)"
    ):
        match_twins(*twin_runs(work, both), "last")


@pytest.fixture(scope="module")
def swapped(spatial, tmp_path_factory):
    from vsp.datasets.apply_variant import VariantRequest, apply_variant

    folder = tmp_path_factory.mktemp("swapped") / "spatial-swapped"
    apply_variant(VariantRequest(spatial, "swapped", folder), n_jobs=1)
    return folder


@pytest.fixture(scope="module")
def mirrored(spatial, tmp_path_factory):
    from vsp.datasets.apply_variant import VariantRequest, apply_variant

    folder = tmp_path_factory.mktemp("mirrored") / "spatial-mirrored"
    apply_variant(VariantRequest(spatial, "mirrored", folder), n_jobs=1)
    return folder


@pytest.mark.parametrize(
    ("changes", "options", "said"),
    [
        ({"prompt": "question"}, {}, r"they differ in prompt \(instruction and question\)"),
        ({}, {"hidden_size": 32}, r"they differ in model options"),
        (
            {"store_dtype": "float16"},
            {},
            r"they differ in stored data type \(float32 and float16\)",
        ),
    ],
)
def test_runs_of_other_models_or_prompts_are_refused(plan_fake, swapped, changes, options, said):
    run, other = plan_fake(store_dtype="float32"), None
    other = plan_fake(swapped, options or None, **{"store_dtype": "float32", **changes})
    with pytest.raises(RunError, match=said) as refused:
        match_twins(run, other, "last")
    assert str(refused.value).endswith("plan both with the same options")


@pytest.mark.parametrize(
    ("of_model", "of_plan", "said"),
    [
        ({"quantization": "4bit"}, {}, r"they differ in quantization \(none and 4bit\)"),
        ({"weights": "random"}, {}, r"they differ in weights \(checkpoint and random\)"),
        ({"adapter": "/a/lora"}, {}, r"they differ in adapter \(none and lora\)"),
        ({"template": "Q: {instruction}"}, {}, r"they differ in template \("),
        ({}, {"checkpoint_files": {"a": "1"}}, r"they differ in checkpoint files; plan both"),
        ({}, {"compute_dtype": "float16"}, r"they differ in data type \("),
    ],
)
def test_runs_of_other_numbers_are_refused(work, of_model, of_plan, said):
    run, twin = twin_runs(work, _rows())
    plan = twin.plan.model_copy(
        update={"model": twin.plan.model.model_copy(update=of_model), **of_plan}
    )
    with pytest.raises(RunError, match=said):
        match_twins(run, Run(twin.folder, plan), "last")


def test_a_row_that_does_not_exchange_its_names_is_refused(work):
    both = _rows()
    for number, names in enumerate((("cup", "box"), ("box", "cup"))):
        for column, name in zip(("subject", "reference"), names, strict=True):
            both[number][column] = np.full(40, name)
    run, twin = twin_runs(work, both)
    assert len(match_twins(run, twin, "last").row) == 40
    both[1]["subject"][3], both[1]["reference"][3] = "cup", "box"
    with pytest.raises(RunError, match="row 'row3' does not exchange subject and reference"):
        match_twins(*twin_runs(work, both, ("new", "new-twin")), "last")


def test_a_row_about_another_picture_is_refused(work):
    both = _rows()
    for rows in both:
        rows["image_sha256"] = np.array([f"{i:064x}" for i in range(40)])
    both[1]["image_sha256"][5] = "f" * 64
    with pytest.raises(RunError, match="row 'row5' is about different pictures"):
        match_twins(*twin_runs(work, both), "last")


def test_another_variant_and_a_missing_position_are_refused(plan_fake, mirrored, swapped):
    run = plan_fake()
    with pytest.raises(
        RunError, match="their dataset variants are none and mirrored; name a run and"
    ):
        match_twins(run, plan_fake(mirrored), "last")
    with pytest.raises(RunError, match="position 'subject' was not recorded; it has last"):
        match_twins(run, plan_fake(swapped), "subject")
