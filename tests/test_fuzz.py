"""Damaged files: reading one gives the right answer or a one-line error, never a traceback."""

import io
import json
import zlib
from pathlib import Path

import pytest
import yaml
from helpers.fuzzing import (
    DEEP,
    DIGITS,
    JSON,
    VALUES,
    Place,
    damaged,
    edited,
    few,
    fuzz,
    or_one_line,
)
from helpers.paths import ROOT
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console

from vsp import models
from vsp.cluster.contract import States
from vsp.cluster.jobs import extract_job, scheduler_of, task_states
from vsp.cluster.local import Local
from vsp.cluster.status import run_status
from vsp.config import ModelConfig, Profile, parse, read_yaml
from vsp.datasets.metadata import read_samples
from vsp.datasets.synthetic.generate import generate, read_config
from vsp.extraction.extract import extract
from vsp.extraction.plan import PlanRequest, plan_run
from vsp.models import catalog
from vsp.models.checkpoints import check_weights
from vsp.models.fingerprint import fingerprint
from vsp.reporting.status_page import status_json, status_page
from vsp.storage.run import Run, find_run


@pytest.fixture(scope="module")
def run(tmp_path_factory, spatial):
    base = tmp_path_factory.mktemp("fuzz")
    model = models.resolve("fake", options={"n_layers": 2, "hidden_size": 1024})
    run = plan_run(PlanRequest(spatial, model, n_shards=2), base).run
    extract(run, run.shards)
    return run


# The plan.


@pytest.fixture(scope="module")
def plan(run):
    return Place(run.folder / "plan.json")


def _opened_is_the_plan(run, plan, body):
    found = plan.with_body(
        body, lambda: (Run.open(run.folder), find_run(None, run.folder.parents[1]))
    )
    if found is not None:
        assert found[0].plan == found[1].plan == run.plan
    return found is not None


@fuzz
@given(data=st.data())
@example(data=None)
def test_a_plan_with_an_edited_value_is_refused_or_is_the_plan(run, plan, data):
    values = json.loads(plan.whole)
    assert _opened_is_the_plan(run, plan, json.dumps(values).encode())
    if data is not None:
        values = data.draw(edited(values))
        _opened_is_the_plan(run, plan, json.dumps(values).encode())


@fuzz
@given(data=st.data())
def test_a_plan_with_damaged_bytes_is_refused_or_is_the_plan(run, plan, data):
    _opened_is_the_plan(run, plan, data.draw(damaged(plan.whole)))


@fuzz
@given(body=st.binary(max_size=60) | JSON)
@example(DEEP)
@example(b'{"format": 3, "a": ' + DEEP)
@example(b'{"format": ' + DIGITS + b"}")
@example(b'{"format": 3, "sha256": "x", "a": "\\ud800"}')
@example(b'{"format": NaN}')
@example(b"\xff\xfe{")
def test_anything_else_is_no_plan(run, plan, body):
    assert not _opened_is_the_plan(run, plan, body)


@pytest.mark.parametrize("name", ["x" * 300, "a\nb", "none", "/", "./x/../..", "~"])
def test_a_name_that_no_run_has_is_one_line(run, name):
    assert or_one_line(lambda: find_run(name, run.folder.parents[1])) is None


def test_a_folder_in_the_place_of_a_file_is_one_line(tmp_path):
    for part in ("scratch/a/plan.json", "b.yaml", "data/metadata.json"):
        (tmp_path / part).mkdir(parents=True)
    assert or_one_line(lambda: find_run("a", tmp_path)) is None
    assert or_one_line(lambda: read_yaml(tmp_path / "b.yaml")) is None
    assert or_one_line(lambda: read_samples(tmp_path / "data", None)) is None


# The manifest.


@pytest.fixture(scope="module")
def manifest(run):
    return Place(run.folder / "manifest.jsonl")


@fuzz
@given(data=st.data())
@example(data=None)
def test_a_damaged_manifest_is_refused_or_its_rows_are_the_planned(run, manifest, data):
    whole = manifest.whole
    expected = [run.samples(shard) for shard in run.shards]
    others = st.binary(max_size=99) | JSON | st.sampled_from([DEEP, whole + b"\n", whole * 2])
    body = data.draw(damaged(whole) | others) if data is not None else whole

    def samples(shard):
        return manifest.with_body(body, lambda: Run(run.folder, run.plan).samples(shard))

    found = [samples(shard) for shard in run.shards]
    assert all(one in (None, right) for one, right in zip(found, expected, strict=True))
    everything = manifest.with_body(body, lambda: Run(run.folder, run.plan).all_samples())
    assert everything in (None, [*expected[0], *expected[1]])
    if body == whole:
        assert everything is not None
    elif len(body) != len(whole):
        assert found == [None] * 2 and everything is None
    else:
        assert everything is None


# The journals.


def _line(text):
    return b"%08x %s\n" % (zlib.crc32(text), text)


@pytest.fixture(scope="module")
def journal(run):
    return Place(sorted(run.journals.iterdir())[0])


def _looked_at(run):
    """The ledgers, as `vsp status` shows them."""
    ledgers = run.ledgers()
    assert all(one.n_done + one.n_failed + one.n_missing == one.stop - one.start for one in ledgers)
    task_states(run, Local(), ledgers)
    found = run_status(run, ledgers, States())
    json.dumps(status_json(found))
    Console(file=io.StringIO(), width=80).print(status_page(found, all_shards=True, commands=[]))
    return ledgers


KEYS = st.sampled_from(
    ["done", "crc32", "failed", "why", "lost", "compared", "absolute", "relative", "limit",
     "ended", "t", "run", "shard", "host", "pid", "job", "restarts", "planned", "packages"]
)  # fmt: skip


@fuzz
@given(entry=st.dictionaries(KEYS, VALUES, max_size=4), timed=st.booleans())
@example({"limit": float("inf")}, True)
@example({"limit": float("nan")}, True)
@example({"ended": "a\nb"}, True)
@example({"ended": "finished", "t": 10**400}, False)
@example({"ended": "finished", "t": float("nan")}, False)
@example({"ended": "finished", "t": 1e300}, False)
@example({"compared": 0, "absolute": [1.0], "relative": [1.0]}, True)
@example({"compared": 0, "absolute": [], "relative": []}, True)
@example({"compared": 1, "absolute": [float("nan")] * 2, "relative": [float("inf")] * 2}, True)
@example({"done": [[0, 10**30]], "crc32": ""}, True)
@example({"failed": 0, "why": "a\nb"}, True)
def test_whatever_an_entry_says_the_status_is_shown_or_it_is_one_line(run, journal, entry, timed):
    text = json.dumps({"t": 1.0, **entry} if timed else entry).encode()
    journal.with_body(journal.whole + _line(text), lambda: _looked_at(run))


@fuzz
@given(data=st.data())
def test_whatever_the_head_of_a_journal_says_it_is_one_line_or_the_same_rows(run, journal, data):
    head, *rest = journal.whole.splitlines(keepends=True)
    entry = data.draw(edited(json.loads(head[9:])))
    body = _line(json.dumps(entry).encode()) + b"".join(rest)
    expected = [ledger.done for ledger in run.ledgers()]
    found = journal.with_body(body, lambda: _looked_at(run))
    assert found is None or [ledger.done for ledger in found] == expected


@fuzz
@given(text=st.binary(max_size=40) | JSON)
@example(DEEP)
@example(DIGITS)
@example(b"\xff")
@example(b"{")
@example(b'{"t": "\\ud800"}')
def test_a_whole_line_that_is_no_entry_is_one_line(run, journal, text):
    body = journal.whole + _line(text.replace(b"\n", b" "))
    assert journal.with_body(body, lambda: _looked_at(run)) is None
    assert journal.with_body(_line(text.replace(b"\n", b" ")), lambda: _looked_at(run)) is None


@fuzz
@given(data=st.data())
def test_a_damaged_journal_settles_no_row_that_was_not(run, journal, data):
    expected = run.ledgers()
    found = journal.with_body(data.draw(damaged(journal.whole)), lambda: _looked_at(run))
    for ledger, right in zip(found or (), expected, strict=bool(found)):
        assert ledger.done.items() <= right.done.items() and not ledger.failed


# YAML.

YAML = VALUES.filter(lambda value: "\\ud800" not in json.dumps(value)).map(
    lambda value: yaml.safe_dump(value).encode()
)
STRANGE = [
    b"a: " + b"[" * 800, b"a: 2001-99-99", b"a: !!int x", b"a: !!float x", b"a: !!bool x",
    b"a: !!timestamp x", b"a: !!null {}", b"a: !!binary \xc3\xa4", b"a: 0b_", b"a: 0x_", b"a: &b {c: *b}",
    b"a: &b [*b]", b"? [a]\n: b", b"? {a: b}\n: c", b"<<: 5", b"<<: [1]", b"a: *none", b"%YAML 9.9\n---\na: 1",
    b"a: 1\n---\nb: 2", b"\xff\xfe", b"\x00", b"a: \x07", b"!!python/object:os.x {}", b"a: 1\na: 2",
    b"a: " + DIGITS, b"1: 2", b"null: 1", b"2001-01-01: 1", b'"a\\nb": 1', b'"\\uD800": 1',
    b"a: !!set {b}", b"a: !!omap [b: 1]", b"a: !!pairs [b: 1]", b"=: 1", b"a: =", b"a: 190:20:30.15", b".nan: 1",
]  # fmt: skip


def _read_as(kind, path):
    if kind == "dataset":
        return read_config(path)
    if kind == "profile":
        profile = parse(Profile, read_yaml(path), str(path))
        assert type(profile)(**profile.model_dump()) == profile
        return profile
    return catalog.find(str(path), path.parent)


SHIPPED = {
    "dataset": ROOT / "configs/spatial_dataset.yaml",
    "profile": ROOT / "jobs/slurm.yaml",
    "model": ROOT / "configs/models/spatialrgpt-8b.yaml",
}


@pytest.fixture(scope="module", params=SHIPPED)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def shipped(kind, tmp_path_factory):
    path = tmp_path_factory.mktemp("yaml") / "file.yaml"
    path.write_bytes(SHIPPED[kind].read_bytes())
    return Place(path)


@pytest.mark.parametrize("body", STRANGE, ids=range(len(STRANGE)))
def test_a_strange_yaml_file_is_one_line(kind, shipped, body):
    assert shipped.with_body(body, lambda: _read_as(kind, shipped.path)) is None


@fuzz
@given(
    body=st.binary(max_size=60)
    | st.text(max_size=60).map(lambda t: t.encode("utf8", "replace"))
    | YAML
)
def test_any_other_yaml_file_is_one_line(kind, shipped, body):
    found = shipped.with_body(body, lambda: _read_as(kind, shipped.path))
    assert found is None or found == Profile()  # {} is a valid profile with defaults only


@fuzz
@given(data=st.data())
def test_a_damaged_yaml_file_is_one_line_or_says_what_it_says(kind, shipped, data):
    body = data.draw(damaged(shipped.whole))
    found = shipped.with_body(body, lambda: _read_as(kind, shipped.path))
    if found is not None:
        said = yaml.safe_load(body)
        told = found.model_dump()
        assert said.keys() <= told.keys()
        assert all(isinstance(value, str) is isinstance(told[key], str) or told[key] is None
                   for key, value in said.items() if isinstance(value, str))  # fmt: skip


@fuzz
@given(data=st.data())
def test_an_edited_yaml_file_is_one_line_or_says_what_it_says(kind, shipped, data):
    values = data.draw(edited(yaml.safe_load(shipped.whole)))
    body = json.dumps(values).encode()  # nearly all JSON is YAML
    found = shipped.with_body(body, lambda: _read_as(kind, shipped.path))
    if found is not None and kind == "profile":
        run = Run(Path("/run"), RUN_PLAN[0]) if RUN_PLAN else None
        if run is not None:
            or_one_line(lambda: scheduler_of(found).script(extract_job(run, found)))


RUN_PLAN = []


@pytest.fixture(scope="module", autouse=True)
def _remember(run):
    RUN_PLAN.append(run.plan)


# Datasets.

RECORDS = [
    {"id": "r0", "image_filename": "a.png", "label": "near", "prompt": "How far?", "group": "g"},
    {"id": "r1", "image_filename": "b.png", "label": "far", "prompt": "Why?", "split": "test"},
    {"id": "r2", "image_filename": "a.png", "relation": "near", "subject": "cup", "reference": "plate",
     "prompt": "x", "subject_box": [0, 0, 5, 5], "reference_box": [1, 2, 3, 4.5]},
]  # fmt: skip


@pytest.fixture(scope="module")
def metadata(tmp_path_factory):
    path = tmp_path_factory.mktemp("dataset") / "metadata.json"
    path.write_text(json.dumps(RECORDS))
    return Place(path)


def _read_right(metadata, body, style=None, marker=""):
    """The records that are read, in order; None if they are refused."""
    found = metadata.with_body(body, lambda: read_samples(metadata.path.parent, style, marker))
    if found is None:
        return None
    samples, labels, _ = found
    records = json.loads(body)
    assert len(samples) == len(records) and len({sample.id for sample in samples}) == len(samples)
    for index, (sample, record) in enumerate(zip(samples, records, strict=True)):
        assert sample.id == str(record.get("id", record.get("image_id", index)))
        assert sample.label in (
            record.get("label"),
            record.get("relation"),
            record.get("color_label"),
        )
        assert sample.image.endswith(record["image_filename"].rstrip("/.").rpartition("/")[2])
        assert sample.split == record.get("split", "") and sample.label in labels
        for text in (sample.id, sample.image, sample.prompt, sample.label, sample.group):
            assert isinstance(text, str) and text.encode()
    return samples


@fuzz
@given(data=st.data())
@example(data=None)
def test_edited_records_are_one_line_or_the_samples_that_they_say(metadata, data):
    records = data.draw(edited(RECORDS)) if data is not None else RECORDS
    style = data.draw(st.sampled_from([None, "dataset", "statement"])) if data is not None else None
    found = _read_right(metadata, json.dumps(records).encode(), style)
    assert data is not None or len(found) == 3


@few
@given(data=st.data())
def test_edited_regions_are_one_line_or_samples(metadata, data):
    records = data.draw(edited([{**RECORDS[2], "depth_filename": "d.png"}]))
    _read_right(metadata, json.dumps(records).encode(), "statement", "<mask> <depth>")


@fuzz
@given(data=st.data())
def test_damaged_metadata_is_one_line_or_the_samples_that_it_says(metadata, data):
    _read_right(metadata, data.draw(damaged(metadata.whole)))


@fuzz
@given(body=st.binary(max_size=60) | JSON)
@example(DEEP)
@example(b"[" + DIGITS + b"]")
@example(b'[{"a": ' + DEEP)
def test_any_other_metadata_is_one_line(metadata, body):
    assert _read_right(metadata, body) is None


@few
@given(body=st.binary(max_size=60) | JSON)
@example(DEEP)
def test_a_dataset_card_that_says_something_else_is_one_line(card, body):
    place, config = card
    assert place.with_body(body, lambda: generate(config, n_jobs=1)) is None


@pytest.fixture(scope="module")
def card(tmp_path_factory):
    base = tmp_path_factory.mktemp("card")
    values = {
        "task": "color",
        "n_samples": 2,
        "seed": 1,
        "output": f"{base}/out",
        "splits": f"{base}/splits",
    }
    (base / "c.yaml").write_text(yaml.safe_dump(values))
    config = read_config(base / "c.yaml")
    generate(config, n_jobs=1)
    return Place(base / "out/dataset.json"), config


# Checkpoints.


@few
@given(index=JSON | VALUES.map(lambda value: json.dumps({"weight_map": value}).encode()))
@example(DEEP)
@example(b'{"weight_map": {"a": 5, "b": "c"}}')
@example(b'{"weight_map": {"a": "\\u0000"}}')
@example(json.dumps({"weight_map": {"a": "x" * 5000}}).encode())
def test_an_index_of_weights_that_names_none_is_one_line(weights, index):
    place, config = weights
    assert place.with_body(index, lambda: check_weights(config) or "whole") is None
    place.with_body(index, lambda: fingerprint(config))


@few
@given(header=JSON)
@example(DEEP)
@example(b'{"a": {"data_offsets": [0, 99999999999]}}')
@example(b'{"a": {"data_offsets": [0, "1"]}}')
def test_a_weight_file_with_a_strange_header_is_wholeor_one_line(weights, header):
    place, config = weights
    file = place.path.parent / "a.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header)
    place.with_body(place.whole, lambda: check_weights(config))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    (folder / "a.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    index = folder / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"w": "a.safetensors"}}')
    config = ModelConfig(family="llava15", checkpoint=str(folder))
    check_weights(config)
    return Place(index), config
