"""`vsp export`: files that other programs read, with the same bytes after an import."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from helpers.foreign_states import research_arrays, write_research
from safetensors import safe_open

from vsp import models
from vsp.errors import RunError, StoreError
from vsp.extraction.extract import extract
from vsp.extraction.plan import PlanRequest, plan_run
from vsp.storage import exported
from vsp.storage.export_files import write_export
from vsp.storage.exported import ExportRequest, prepare_export
from vsp.storage.imported_run import import_states
from vsp.storage.run import Run
from vsp.storage.state_files import open_state_file
from vsp.storage.stored_settings import choose_setting


@pytest.fixture(scope="module")
def run_once(tmp_path_factory, spatial):
    """A run of the fake model with answers and another position, in float16. Tests have copies."""
    shape = {"store_dtype": "float16", "answers": True, "positions": ("last", "image")}
    request = PlanRequest(spatial, models.resolve("fake"), n_shards=1, **shape)
    made = plan_run(request, tmp_path_factory.mktemp("run")).run
    extract(made, made.shards)
    return made


@pytest.fixture
def run(run_once, work):
    return Run.open(shutil.copytree(run_once.folder, work / "scratch" / run_once.name))


def _export(run, form, path, **changes):
    return write_export(prepare_export(run, ExportRequest(**changes)), form, path)


def _import(path, out):
    return import_states(open_state_file(path), out).run


def test_the_npz_has_the_arrays_of_the_research_project(run, work):
    _export(run, "npz", work / "a.npz")
    file = np.load(work / "a.npz")  # without pickles
    samples, n = run.all_samples(), run.plan.n_samples
    states = file["representations"]
    assert (
        states.shape == (n, run.plan.n_layers, run.plan.hidden_size) and states.dtype == np.float16
    )
    for layer in range(run.plan.n_layers):
        assert np.array_equal(states[:, layer], run.store.layer(layer))
    assert file["labels"].tolist() == [one.label for one in samples]
    assert file["image_ids"][0] == "images/spatial_000000.png"
    assert {file[name].dtype.kind for name in file.files} == {"f", "U"}
    options = run.plan.answers.n_options
    assert np.array_equal(file["answers"], run.stores["answers"].layer(0)[:, :options])
    card = json.loads(file["card"][0])
    assert card["model"]["family"] == "fake" and card["prompt"] == run.plan.prompt
    assert card["layers"] == [*range(run.plan.n_layers)] and card["last_layer"] == "normed"
    assert not card["assumed"] and card["left_out"] == {}


@pytest.mark.parametrize("form", ["npz", "safetensors"])
@pytest.mark.parametrize(
    "changes", [{}, {"layers": [1, 2], "rows": "train"}, {"position": "image"}]
)
def test_an_exported_file_that_is_imported_and_exported_has_the_same_bytes(
    run, work, form, changes
):
    changes = {**changes, "answers": False}
    first = _export(run, form, work / f"a.{form}", **changes)
    again = _import(work / f"a.{form}", work / "scratch/again")
    second = _export(again, form, work / f"b.{form}")
    assert [one.read_bytes() for one in first] == [two.read_bytes() for two in second]
    layers = changes.get("layers", range(run.plan.n_layers))
    store, kept = (
        run.states(changes.get("position", "last")),
        _rows(run, changes.get("rows", "done")),
    )
    for place, layer in enumerate(layers):
        assert again.store.layer(place).tobytes() == store.layer(layer)[kept].tobytes()
    assert again.plan.convention().layers == tuple(layers)
    assert again.plan.model == run.plan.model and again.plan.prompt == run.plan.prompt


def _rows(run, split):
    return [i for i, one in enumerate(run.all_samples()) if split in ("done", one.split)]


def test_safetensors_and_parquet_have_the_same_states_and_rows(run, work):
    parquet = pytest.importorskip("pyarrow.parquet")
    _export(run, "safetensors", work / "a.safetensors")
    _export(run, "parquet", work / "a.parquet")
    table = parquet.read_table(work / "a.parquet")
    rows = [json.loads(line) for line in (work / "a.rows.jsonl").read_text().splitlines()]
    with safe_open(work / "a.safetensors", "np") as file:
        card = json.loads(file.metadata()["vsp"])
        assert sorted(file.keys()) == [f"layer.{i}" for i in range(run.plan.n_layers)]
        for layer in range(run.plan.n_layers):
            wanted = run.store.layer(layer)
            assert np.array_equal(file.get_tensor(f"layer.{layer}"), wanted)
            column = table[f"layer_{layer}"].combine_chunks().flatten().to_numpy()
            assert column.dtype == np.float16 and np.array_equal(
                column.reshape(wanted.shape), wanted
            )
    assert card.pop("rows_sha256") and card == json.loads(table.schema.metadata[b"vsp"])
    for name in ("id", "label", "group", "split", "prompt", "options", "answers"):
        assert table[name].to_pylist() == [row[name] for row in rows]
    assert [row["id"] for row in rows] == [one.id for one in run.all_samples()]


def test_rows_that_failed_are_left_out_only_if_asked_and_are_counted(work):
    states = research_arrays()["representations"]
    states[[3, 50], 1, 0] = np.nan
    write_research(work / "a.npz", representations=states)
    run = _import(work / "a.npz", work / "scratch/a")
    with pytest.raises(
        RunError, match="2 rows missing or failed of 120; leave them out with --partial"
    ):
        _export(run, "npz", work / "b.npz")
    export = prepare_export(run, ExportRequest(partial=True))
    why = "value nan of layer 1 is not finite in float32"
    assert export.card["left_out"] == {why: 2} and export.notes == (f"2 rows left out: {why}",)
    write_export(export, "npz", work / "b.npz")
    kept = np.delete(np.arange(120), [3, 50])
    assert np.array_equal(np.load(work / "b.npz")["representations"], states[kept])
    again = _import(work / "b.npz", work / "scratch/b")
    assert prepare_export(again, ExportRequest()).card == export.card
    assert again.plan.convention().assumed  # as it was in the first file


def test_a_layer_in_the_middle_is_not_said_to_be_normed(run):
    card = prepare_export(run, ExportRequest(layers=[0, 1])).card
    assert card["layers"] == [0, 1] and card["last_layer"] == "raw"


def test_what_cannot_be_exported_is_one_line(run, work):
    (work / "a.npz").touch()
    for form, name, changes, why in (
        ("npz", "a.npz", {}, "exists already"),
        ("npz", "a.txt", {}, "does not end in .npz"),
        ("npz", "b.npz", {"layers": [99]}, "has layers 0 to"),
        ("npz", "b.npz", {"position": "subject"}, "was not recorded"),
        ("npz", "b.npz", {"rows": "test"}, "no row to export"),
        ("npz", "b.npz", {"predictions": True}, "holds no results"),
    ):
        with pytest.raises(RunError, match=why):
            _export(run, form, work / name, **changes)
    assert (work / "a.npz").stat().st_size == 0 and not (work / "b.npz").exists()


def test_rows_beside_a_safetensors_file_must_be_its_own(run, work):
    _export(run, "safetensors", work / "a.safetensors")
    rows = work / "a.rows.jsonl"
    rows.write_text(rows.read_text().replace('"left_of"', '"right_of"', 1))
    with pytest.raises(StoreError, match=r"is not the file that a.safetensors was written with"):
        open_state_file(work / "a.safetensors")


def test_spans_of_rows_join_to_all_rows(run, work, monkeypatch):
    _export(run, "npz", work / "a.npz", rows="train")
    monkeypatch.setattr(exported, "_SPAN", 5 * run.plan.hidden_size * 2 * run.plan.n_layers)
    _export(run, "npz", work / "b.npz", rows="train")
    assert (work / "a.npz").read_bytes() == (work / "b.npz").read_bytes()


def test_predictions_are_those_of_held_out_rows(work, vsp):
    write_research(work / "old.npz")
    vsp("import", "states", "old.npz", "--split", "research", "--out", "scratch/old")
    vsp(
        "probe",
        "--run",
        "old",
        "--permutations",
        0,
        "--controls",
        0,
        "--n-jobs",
        1,
        "--probe",
        "centroid",
    )
    said = vsp("export", "old", "--to", "npz", "--predictions", "--layers", "1,2", "--out", "p.npz")
    assert "wrote 120 rows × 2 layers to p.npz" in said.stdout
    predictions = choose_setting(work / "results/old").folder / "predictions.npz"
    file, results = np.load(work / "p.npz"), np.load(predictions)
    val = np.flatnonzero(file["splits"] == "val")
    assert set(np.flatnonzero((file["predictions"] != "").all(axis=1))) == set(val)
    place = {text: i for i, text in enumerate(results["id"].tolist())}
    for row in val.tolist():
        column = place[str(file["ids"][row])]
        wanted = results["classes"][results["predicted"][1:3, 0, column]]
        assert file["predictions"][row].tolist() == wanted.tolist()


_STREAM = """
from pathlib import Path
from vsp.cli.main import main
from vsp.storage import export_files, imported_run, state_files
import pydantic, rich.progress

def peak():  # kB at most so far, of this process alone
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))

before = peak()
for name in ("stored", "packed"):
    assert main(["import", "states", f"{name}.npz", "--out", f"scratch/{name}"]) == 0
for form in ("npz", "safetensors"):
    assert main(["export", "packed", "--to", form, "--out", f"out.{form}"]) == 0
assert main(["import", "states", "out.safetensors", "--out", "scratch/again"]) == 0
print((peak() - before) // 1024)
"""


def test_a_large_file_is_never_whole_in_memory(work):
    few = np.random.default_rng(0).normal(size=(80, 33, 256)).astype("f4")
    states = np.tile(few, 32)  # 87 MB, 3 MB compressed
    labels = np.array(["a", "b"] * 40)
    for name, save in (("stored", np.savez), ("packed", np.savez_compressed)):
        save(work / f"{name}.npz", representations=states, labels=labels)
    command = [sys.executable, "-c", _STREAM]
    answer = subprocess.run(command, cwd=work, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert int(answer.stdout.split()[-1]) < 75  # MB
