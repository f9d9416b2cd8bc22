"""`vsp import states`: a run of another program's states is verified, probed and compared like any other."""

from __future__ import annotations

import json
import subprocess

import numpy as np
import pytest
from helpers.foreign_states import research_arrays, write_pt, write_research, write_vllm

from vsp.errors import RunError, StoreError, VspError
from vsp.extraction.verify import verify
from vsp.storage import npz_entries
from vsp.storage.imported_run import import_states
from vsp.storage.run import Run
from vsp.storage.state_files import open_state_file
from vsp.storage.stored_settings import choose_setting


def _imported(work, name="old", split=None, split_files=(), **changes):
    path = work / f"{name}.npz"
    arrays = write_research(path, **changes)
    return arrays, import_states(open_state_file(path), work / "scratch" / name, split, split_files)


def test_states_rows_and_origin_are_those_of_the_file(work):
    arrays, made = _imported(work)
    run = Run.open(work / "scratch/old")
    assert made.fresh and made.n_failed == 0
    for layer in range(3):
        assert np.array_equal(run.store.layer(layer), arrays["representations"][:, layer])
    samples = run.all_samples()
    assert [one.label for one in samples] == arrays["labels"].tolist()
    assert [one.group for one in samples] == arrays["image_ids"].tolist()
    assert run.plan.convention().describe().startswith("layers 0-2 (0: embedding output)")
    assert run.plan.convention().assumed
    check = ["sha256sum", "--check", run.folder / "sources.txt"]
    assert subprocess.run(check, cwd=work, capture_output=True).returncode == 0


def test_the_same_file_is_already_there_and_another_is_refused(work):
    _imported(work)
    before = (work / "scratch/old/states.npy").stat()
    _, again = _imported(work)
    assert not again.fresh and (work / "scratch/old/states.npy").stat() == before
    for changes in ({"seed": 1}, {"labels": np.array([*"ab"] * 60)}, {"split": "research"}):
        if seed := changes.pop("seed", None):
            changes = {"representations": research_arrays(seed=seed)["representations"]}
        with pytest.raises(RunError, match="exists already with other states"):
            _imported(work, **changes)
    assert (work / "scratch/old/states.npy").stat() == before
    assert [path.name for path in (work / "scratch").iterdir()] == ["old"]


def test_a_value_that_is_not_finite_fails_its_row_and_no_other(work, monkeypatch):
    monkeypatch.setattr(npz_entries, "BLOCK", 5 * 3 * 8 * 8)  # 5 rows
    states = research_arrays(dtype="f8")["representations"]
    states[7, 1, 2], states[9, 2, 0] = np.nan, 1e300
    _, made = _imported(work, representations=states)
    ledger = made.run.ledgers()[0]
    assert ledger.failed == {7: "value nan of layer 1 is not finite in float32",
                             9: "value inf of layer 2 is not finite in float32"}  # fmt: skip
    assert made.n_failed == 2 and ledger.n_done == 118 and ledger.n_missing == 0
    assert any("float64 states are stored as float32" in note for note in made.notes)
    done = np.delete(np.arange(120), [7, 9])
    for layer in range(3):
        assert np.array_equal(made.run.store.layer(layer)[done], states[done, layer].astype("f4"))
    assert verify(made.run, 1).n_bad == 0


@pytest.mark.parametrize("broken", ["last row", "every row", "not scratch"])
def test_an_import_that_fails_leaves_nothing(work, broken):
    states = research_arrays()["representations"]
    out, why = work / "scratch/old", "ends before its last row|damaged"
    if broken == "every row":
        states, why = np.full_like(states, np.nan), "all 120 rows fail: value nan of layer 0"
    if broken == "not scratch":
        out, why = work / "runs/old", "write scratch/NAME"
    np.savez(work / "a.npz", representations=states, labels=research_arrays()["labels"])
    if broken == "last row":
        body = (work / "a.npz").read_bytes()
        place = body.index(states[119].tobytes())
        (work / "a.npz").write_bytes(
            body[:place] + bytes(8) + body[place + 8 :]
        )  # the CRC is wrong
    with pytest.raises(VspError, match=why):
        import_states(open_state_file(work / "a.npz"), out)
    assert [*work.rglob("scratch/*"), *work.rglob("runs/*")] == []


def test_a_split_of_two_files_names_ids_or_images(work):
    images = [f"image{i}" for i in range(40)]
    train, val = work / "train.json", work / "val.json"
    train.write_text(json.dumps([{"image": name, "rel": "x"} for name in images[:30]]))
    val.write_text(
        json.dumps(["90", "91", "92", {"id": "93"}, "94", "95", "image32", *images[33:], "zzz"])
    )
    _, made = _imported(work, split_files=(train, val))
    split = [one.split for one in made.run.all_samples()]
    assert split == ["train"] * 90 + ["val"] * 30
    assert any("entries that name no row of the file: 1" in note for note in made.notes)
    assert any("split of train.json and val.json: 90 train, 30 val" in note for note in made.notes)


BAD_SPLITS = {
    "a row in neither": ([f"image{i}" for i in range(30)], ["image31"], "27 rows in neither"),
    "a row in both": ([f"image{i}" for i in range(40)], ["image3"], "'image3' is also in"),
    "an image on both sides": ([*[f"image{i}" for i in range(39)], "117"], ["118", "119"], "1 image on both sides"),
    "no list": ({"a": 1}, [], "is no list in JSON"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_SPLITS)
def test_split_files_that_leak_or_leave_rows_out_are_refused(work, name):
    first, second, why = BAD_SPLITS[name]
    (work / "a.json").write_text(json.dumps(first))
    (work / "b.json").write_text(json.dumps(second))
    with pytest.raises(StoreError, match=why):
        _imported(work, split_files=(work / "a.json", work / "b.json"))
    assert not [*work.glob("scratch/*")]


def _research_split(n_rows):
    """Train and val rows of the research project, from its description."""
    order = np.random.RandomState(42).permutation(n_rows)
    return order[: int(0.8 * n_rows)], order[int(0.8 * n_rows) :]


def _nearest_mean(states, labels, train, val):
    """For each val row, the label whose mean over the train rows is nearest."""
    names = np.unique(labels)
    means = np.stack([states[train][labels[train] == name].mean(axis=0) for name in names])
    return names[((states[val][:, None] - means) ** 2).sum(axis=2).argmin(axis=1)]


def test_the_accuracies_of_the_research_project_are_found_again(work, vsp):
    """Its formula: plain accuracy on the val rows of its split, a probe fitted on the train rows."""
    arrays = write_research(work / "old.npz")
    said = vsp("import", "states", "old.npz", "--split", "research", "--out", "scratch/old").stderr
    train, val = _research_split(120)
    images = arrays["image_ids"]
    n_both = len(set(images[train]) & set(images[val]))
    assert f"{n_both} images have rows in train and in val" in said and n_both > 10
    vsp("probe", "--run", "old", "--permutations", 0, "--controls", 0, "--n-jobs", 1,
        "--metric", "accuracy", "--probe", "centroid")  # fmt: skip
    results = choose_setting(work / "results/old")
    _, scores = results.read()
    outer = results.arrays("predictions")["outer"]
    assert sorted(np.flatnonzero(outer[0] >= 0).tolist()) == sorted(val.tolist())
    for layer in range(3):
        states = arrays["representations"][:, layer].astype("f8")
        accuracy = (
            _nearest_mean(states, arrays["labels"], train, val) == arrays["labels"][val]
        ).mean()
        assert scores[layer].accuracy == pytest.approx(accuracy, abs=1e-12)
    assert scores[2].accuracy > 0.5


def test_commands_read_an_imported_run_and_refuse_to_compute_it(work, vsp):
    states = research_arrays(90)["representations"]
    states[4, 2, 1] = np.inf
    write_pt(work / "pt", states, [{"rel": "ab"[i % 2], "image_id": i // 2} for i in range(90)])
    answer = vsp("import", "states", "pt", "--out", "scratch/old", "--last-layer", "raw", "--json")
    assert json.loads(answer.stdout)["failed"] == 1
    assert "89 rows checked: all match; 1 failed" in vsp("verify", "--run", "old").stdout
    status = vsp("status", "--run", "old").stdout
    assert (
        "99% done" in status and "value inf of layer 2" in status and "--retry-failed" not in status
    )
    for words in (
        ["extract"],
        ["submit", "--dry-run"],
        ["resume"],
        ["answer", "--generate", 1],
        ["bench"],
    ):
        refused = vsp(*words, "--run", "old")
        assert refused.returncode == 1
        assert f"its states were imported from {work / 'pt'}" in refused.stderr
    vsp("probe", "--run", "old", "--permutations", 0, "--controls", 0, "--n-jobs", 1, "--partial")
    report = vsp("report", "--run", "old").stdout
    assert "layers 0-2 (0: embedding output), the last before any final norm" in report.replace(
        "\n", " "
    ).replace("  ", "")


def test_a_first_layer_that_is_not_the_embedding_output_is_not_called_so(work, vsp):
    arrays = research_arrays(60)
    metas = [{"rel": str(label), "id": str(i)} for i, label in enumerate(arrays["labels"])]
    write_pt(work / "pt", arrays["representations"], metas, first=4)
    vsp("import", "states", "pt", "--out", "scratch/old")
    vsp("probe", "--run", "old", "--permutations", 0, "--controls", 0, "--n-jobs", 1, "--no-curve",
        "--grid", 0.01, 1)  # fmt: skip
    summary = choose_setting(work / "results/old").summary()
    assert "embedding output" not in summary["baselines"]
    assert summary["peak"]["over_embedding"] is None
    vsp("report", "--run", "old", "--plot", "curve.svg")
    assert "layer (0 = layer 4 of the model)" in (work / "curve.svg").read_text()


def test_vllms_layers_are_recorded(work, vsp):
    states = research_arrays(6)["representations"]
    write_vllm(work / "v", states, [{"label": "ab"[i % 2]} for i in range(6)])
    assert "do not say which layers" in vsp("import", "states", "v", "--out", "scratch/v").stderr
    vsp("import", "states", "v", "--layers", "1,2,4", "--out", "scratch/v")
    convention = Run.open(work / "scratch/v").plan.convention()
    assert (convention.layers, convention.last, convention.assumed) == ((1, 2, 4), "raw", False)


def test_options_of_the_other_kind_of_source_are_refused_by_name(work, vsp):
    write_research(work / "a.npz")
    for words, why in (
        (["states", "a.npz", "--out", "scratch/a", "--balance"], "--balance is about datasets"),
        (["states", "a.npz", "--out", "scratch/a", "--annotations", "x"], "--annotations is about datasets"),
        (["vrd", "--annotations", "x", "--out", "d", "--last-layer=raw"], "--last-layer is about states"),
        (["vrd", "a.npz", "--annotations", "x", "--out", "d"], "name files of the source 'vrd' with"),
        (["states", "a.npz", "b.npz", "--out", "scratch/a"], "2 files named"),
        (["states", "--out", "scratch/a"], "0 files named"),
        (["states", "a.npz"], "--out is missing"),
        (["vrd", "--out", "d"], "--annotations is missing"),
    ):  # fmt: skip
        refused = vsp("import", *words)
        assert refused.returncode == 1 and why in refused.stderr
    assert not (work / "scratch").exists() and not (work / "d").exists()
