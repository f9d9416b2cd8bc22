"""A run detects that its checkpoint has changed since the plan."""

import json
import shutil

import pytest

from vsp import models
from vsp.errors import RunError
from vsp.extraction.extract import extract
from vsp.extraction.plan import PlanRequest, plan_run
from vsp.models.fingerprint import fingerprint
from vsp.storage.run import Run

MIB = 1 << 20


@pytest.fixture
def copy(checkpoint, tmp_path):
    return shutil.copytree(checkpoint, tmp_path / "copy")


def _model(folder, **changes):
    return models.resolve("llava15", checkpoint=str(folder), quantization="none", **changes)


def _planned(work, spatial, model):
    return Run.open(plan_run(PlanRequest(spatial, model), work).run.folder)


def _flip(path, at):
    with path.open("r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 1]))


EDITS = {
    "tokenizer.json": lambda path: path.write_text(path.read_text() + " "),
    "preprocessor_config.json": lambda path: path.write_text(path.read_text() + " "),
    "model.safetensors": lambda path: _flip(path, path.stat().st_size // 2),
}


@pytest.mark.parametrize("name", EDITS)
def test_a_changed_file_is_refused_before_weights_are_loaded(work, spatial, copy, name):
    run = _planned(work, spatial, _model(copy))
    EDITS[name](copy / name)
    with pytest.raises(RunError, match=f"{name} of checkpoint .* was changed since the plan"):
        extract(run, run.shards)
    assert not list(run.journals.iterdir())


@pytest.mark.parametrize("name", ["generation_config.json", "model.safetensors"])
def test_a_missing_file_is_refused(work, spatial, copy, name):
    run = _planned(work, spatial, _model(copy))
    (copy / name).unlink()
    with pytest.raises(RunError, match=f"{name} of checkpoint .* is gone since the plan"):
        extract(run, run.shards)


def test_a_file_more_is_refused_if_it_would_be_read(work, spatial, copy):
    run = _planned(work, spatial, _model(copy))
    (copy / "README.md").write_text("new")
    (copy / ".cache").mkdir()
    (copy / ".cache/vocab.json").write_text("{}")
    (copy / "example.png").write_bytes(b"")
    run.check_checkpoint(fingerprint(run.plan.model))
    (copy / "chat_template.jinja").write_text("{{ messages }}")
    with pytest.raises(RunError, match=r"chat_template\.jinja of checkpoint .* is new since"):
        extract(run, run.shards)


def test_random_weights_need_no_weight_files(work, spatial, copy):
    run = _planned(work, spatial, _model(copy, weights="random"))
    assert "config.json" in run.plan.checkpoint_files
    (copy / "model.safetensors").unlink()
    run.check_checkpoint(fingerprint(run.plan.model))


def test_a_model_without_a_checkpoint_has_no_files(plan_fake):
    assert plan_fake().plan.checkpoint_files == {}


@pytest.fixture
def large(tmp_path):
    """A folder with sparse weights of 20 MiB and 5 bytes, named by an index, and other files."""
    folder = tmp_path / "large"
    folder.mkdir()
    for name in ("part.safetensors", "consolidated.safetensors"):
        with (folder / name).open("wb") as file:
            file.truncate(20 * MIB + 5)
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_bytes(b"{" + b" " * 17 * MIB + b"}")
    index = {"weight_map": {"a": "part.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def test_of_sharded_weights_the_files_in_the_index_count(large):
    found = fingerprint(_model(large))
    assert list(found) == [
        "config.json", "model.safetensors.index.json", "part.safetensors", "tokenizer.json",
    ]  # fmt: skip
    assert found["part.safetensors"].startswith(f"{20 * MIB + 5}:")
    assert list(fingerprint(_model(large, weights="random"))) == ["config.json", "tokenizer.json"]


def test_large_weights_are_sampled_and_other_files_read_whole(large):
    def changed(name, at):
        before = fingerprint(_model(large))
        _flip(large / name, at)
        after = fingerprint(_model(large))
        return [file for file in before if before[file] != after[file]]

    size = 20 * MIB + 5
    last = size - (64 << 10)  # start of the last sample
    sampled = [0, MIB - 1, 7 * last // 15, 7 * last // 15 + (64 << 10) - 99, last, size - 1]
    for at in sampled:
        assert changed("part.safetensors", at) == ["part.safetensors"], at
    assert changed("part.safetensors", 7 * last // 15 + (80 << 10)) == []
    with (large / "part.safetensors").open("ab") as file:
        before = fingerprint(_model(large))
        file.truncate(size + 1)
    assert fingerprint(_model(large)) != before
    assert changed("tokenizer.json", 9 * MIB + 12345) == ["tokenizer.json"]


def test_the_parts_of_a_checkpoint_in_folders_count(tmp_path):
    from helpers.paths import ROOT

    folder = shutil.copytree(ROOT / "tests/models/spatialrgpt/ckpt", tmp_path / "ckpt")
    model = models.resolve("spatialrgpt", checkpoint=str(folder), quantization="none")
    found = fingerprint(model)
    parts = {name.partition("/")[0] for name in found if "/" in name}
    assert parts == {"llm", "vision_tower", "mm_projector", "region_extractor"}
    for part in parts:
        assert any(name.startswith(f"{part}/") and "json" not in name for name in found), part
