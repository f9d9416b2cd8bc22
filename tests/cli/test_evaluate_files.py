"""`vsp evaluate` on files and positions, and what it refuses."""

import json

import numpy as np
import pytest
from helpers.foreign_states import write_research
from helpers.transferred import columns, made_probes, write

from vsp.storage.npz import read_arrays
from vsp.storage.stored_settings import choose_setting

LIGHT = ["--grid", 0.01, 1, "--permutations", 0, "--controls", 0, "--resamples", 100, "--no-curve", "--no-random",
         "--no-words", "--n-jobs", 1]  # fmt: skip


def test_the_accuracies_of_the_research_project_are_found_by_evaluate(work, vsp):
    """Its formula: plain accuracy of a saved probe on the val rows of its split, in every layer."""
    arrays = write_research(work / "old.npz")
    n_rows, images = len(arrays["labels"]), arrays["image_ids"]
    order = np.random.RandomState(42).permutation(n_rows)
    train, val = order[: int(0.8 * n_rows)], order[int(0.8 * n_rows) :]
    assert len(set(images)) < n_rows and set(images[train]) & set(images[val])
    vsp("import", "states", "old.npz", "--split", "research", "--out", "scratch/old")
    vsp("probe", "--run", "old", "--metric", "accuracy", *LIGHT)
    answer = vsp("evaluate", "old", "--on", "old.npz", "--metric", "accuracy", "--json")
    (made,) = json.loads(answer.stdout)
    assert made["n_rows"] == len(val) and made["n_seen"] == len(train)
    names = np.unique(arrays["labels"])
    for layer, one in enumerate(made["layers"]):
        with (choose_setting(work / "results/old").folder / f"probes/{layer:03}.npz").open(
            "rb"
        ) as file:
            saved = read_arrays(file)
        states = arrays["representations"][val, layer].astype("f8") - saved["mean"]
        said = names[(states @ saved["coef"].T + saved["intercept"]).argmax(axis=1)]
        accuracy = (said == arrays["labels"][val]).mean()
        assert one["accuracy"] == accuracy and one["score"] == pytest.approx(accuracy, abs=1e-12)
        assert one["own"] == pytest.approx(accuracy, abs=1e-12)
        for name in names:
            of_class = arrays["labels"][val] == name
            recall = (said == name)[of_class].mean()
            assert one["recall"][name]["score"] == pytest.approx(recall)
    assert made["layers"][2]["accuracy"] > 0.5


def test_an_old_file_is_known_by_its_images_in_whatever_order_its_rows_are(work, vsp):
    """It names neither ids nor digests. Rows about a fitted picture are left out."""
    images = np.array([f"image{i // 2}" for i in range(120)])
    arrays = write_research(work / "old.npz", image_ids=images)
    vsp("import", "states", "old.npz", "--split", "research", "--out", "scratch/old")
    vsp("probe", "--run", "old", "--metric", "accuracy", *LIGHT)
    order = np.random.default_rng(3).permutation(len(arrays["labels"]))
    np.savez(work / "again.npz", **{name: array[order] for name, array in arrays.items()})
    train = np.random.RandomState(42).permutation(len(order))[: int(0.8 * len(order))]
    n_new = (~np.isin(arrays["image_ids"], arrays["image_ids"][train])).sum()
    (made,) = json.loads(vsp("evaluate", "old", "--on", "again.npz", "--json").stdout)
    # A row may stand where it stood before, as one of the run's own test rows.
    n_own = int((order == np.arange(len(order))).sum())
    assert n_new <= made["n_rows"] <= n_new + n_own and 0 < n_new < 12 and n_own < 5
    page = vsp("evaluate", "old", "--on", "old.npz").stdout.replace("\n", " ")
    assert "the picture is on training rows too" in page


@pytest.fixture
def three(work):
    """Two probed runs and a third target."""
    made_probes("a", columns())
    made_probes("b", {**columns(), "representations": columns(seed=1)["representations"]})
    write("c", columns(30, first=500))
    return work


def test_probes_of_a_position_are_judged_on_states_at_it_or_at_another(work, plan_fake, vsp):
    from vsp.extraction.extract import extract

    run = plan_fake(name="two", positions=("last", "subject"), options={"n_layers": 2})
    extract(run, run.shards)
    for position in ("last", "subject"):
        vsp("probe", "--run", "two", "--position", position, *LIGHT)
        results = choose_setting(work / "results/two", position)
        (made,) = json.loads(
            vsp("evaluate", "two", "--on", "two", "--position", position, "--json").stdout
        )
        assert made["position"] == made["target_position"] == position
        scores = [one.score for one in results.read()[1]]
        assert [one["score"] for one in made["layers"]] == pytest.approx(scores, abs=1e-9)
    answer = vsp("evaluate", "two", "--on", "two", "--on-position", "subject", "--json")
    (other,) = json.loads(answer.stdout)
    assert (other["position"], other["target_position"], other["paired"]) == (
        "last", "subject", True,
    )  # fmt: skip
    outer = choose_setting(work / "results/two", "last").arrays("predictions")["outer"]
    assert other["n_rows"] == (outer[0] >= 0).sum()


REFUSED = {
    "no such run": (["nothing", "--on", "c.npz"], "nothing: no such run or results"),
    "no such target": (["a", "--on", "nothing"], "scratch/nothing: no such run"),
    "no such file": (["a", "--on", "./nothing.npz"], "nothing.npz"),
    "no states": (["a", "--on", "notes.txt"], "notes.txt: "),
    "control characters": (["a", "--on", "x\x1b[31m\x07y"], "no such run"),
    "control characters in a file": (["a", "--on", "x\x1b[31m.npz"], ".npz: "),
    "a layer of one pair": (["a", "--on", "c.npz", "--layer", 1], "--layer 1"),
    "a layer that is not there": (["a", "--on", "c.npz", "b", "--layer", 7], "layer 7"),
    "a table": (["a", "--on", "odd.npz", "--relations", "nothing"], "nothing"),
    "a position of a file": (["a", "--on", "c.npz", "--on-position", "subject"], "no positions"),
    "no target": (["a"], "--on"),
}  # fmt: skip


def test_what_cannot_be_evaluated_is_refused_in_one_line(three, vsp):
    (three / "notes.txt").write_text("hello")
    (three / "x\x1b[31m.npz").write_text("hello")
    rows = columns(30, first=500)
    write("odd", {**rows, "labels": np.where(rows["labels"] == "above", "over", rows["labels"])})
    for case, (words, why) in REFUSED.items():
        answer = vsp("evaluate", *words)
        assert answer.returncode in (1, 2) and answer.stdout == "", case
        said = [line for line in answer.stderr.splitlines() if line.startswith("vsp")]
        assert len(said) == 1 and why in said[0] and "Traceback" not in answer.stderr, case
        assert "\x1b[31m" not in answer.stderr and "\x07" not in answer.stderr, case


def test_labels_with_control_characters_are_shown_escaped(three, vsp):
    rows = columns(30, first=500)
    write("odd", {**rows, "labels": np.where(rows["labels"] == "above", "x\x1b[31m\x07y", rows["labels"])})  # fmt: skip
    answer = vsp("evaluate", "a", "--on", "odd.npz")
    assert (
        answer.returncode == 0 and "\x1b[31m" not in answer.stdout and "\x07" not in answer.stdout
    )
    assert "31m" in answer.stdout


def test_results_of_an_older_vsp_name_the_command_to_type(three, vsp):
    results = choose_setting(three / "results/a")
    summary, scores = results.read()
    arrays = results.arrays("predictions")
    for name in ("key", "image", "fitted", "outer_fitted"):
        del arrays[name]
    kept = [results.probe(layer)[1] for layer in range(3)]
    results.write(summary, scores, arrays, results.arrays("estimates"), kept)
    answer = vsp("evaluate", "a", "--on", "c.npz")
    assert answer.returncode == 1 and "run `vsp probe --run a` again" in answer.stderr


def test_a_pair_that_cannot_be_judged_leaves_the_others(three, vsp):
    rows = columns(20, first=900)
    write("other", {**rows, "labels": np.array([f"x{label}" for label in rows["labels"]])})
    answer = vsp("evaluate", "a", "--on", "b", "other.npz")
    assert answer.returncode == 0 and "a on other.npz: no row of 40 is left" in answer.stderr
    assert "not judged" in answer.stderr and "trained on" not in answer.stderr
    refused = vsp("evaluate", "a", "--on", "other.npz")
    assert refused.returncode == 1 and "that lists them under its classes" in refused.stderr


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--on", "b", "--relations", "5way"], "table of relations '5way' is not known"),
        (["--on", "nothing.npz"], "nothing.npz: no such file"),
        (["--on", "a.parquet"], "a.parquet: Parquet files of states are not read"),
    ],
)
def test_what_does_not_exist_is_named(three, vsp, words, why):
    (three / "a.parquet").write_bytes(b"PAR1")
    answer = vsp("evaluate", "a", *words)
    assert answer.returncode == 1 and why in answer.stderr
