"""Results and saved probes with right digests, but other values, types and shapes."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import zipfile
import zlib

import numpy as np
import pytest
from helpers.fuzzing import DEEP, JSON, Place, damaged, edited, few, or_one_line
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vsp import models
from vsp.cli.main import main
from vsp.errors import VspError
from vsp.evaluation.probe_run import probe_run
from vsp.evaluation.probe_settings import ProbeSettings
from vsp.extraction.extract import extract
from vsp.extraction.plan import PlanRequest, plan_run
from vsp.probes import load
from vsp.storage.stored_settings import stored_settings
from vsp.utils.files import json_sha256

some = settings(few, max_examples=10)  # each example runs several commands

COMPARE = ["compare", "one", "two"]
PLOT = ["report", "--run", "one", "--plot", "one.svg"]
# File → the commands that read it besides the report; a saved probe is loaded by a function.
READERS = {
    "summary.json": [COMPARE, PLOT],
    "scores.jsonl": [COMPARE, PLOT],
    "predictions.npz": [COMPARE],
    "estimates.npz": [COMPARE],
    "probes/card.json": [],
    "probes/001.npz": [],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, spatial):
    """`results/one` and `results/two`, without their runs."""
    base = tmp_path_factory.mktemp("results")
    model = models.resolve("fake", options={"n_layers": 2, "hidden_size": 64})
    for name in ("one", "two"):
        run = plan_run(PlanRequest(spatial, model, n_shards=1, name=name), base).run
        extract(run, run.shards)
        probe_run(
            run, ProbeSettings(permutations=2, controls=1, resamples=50, strengths=(0.01, 1.0)), 1
        )
    shutil.rmtree(base / "scratch")
    return base


@pytest.fixture(autouse=True)
def _in_the_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)


def _reseal(folder, summary):
    """The bytes of summary.json with right digests for the files and values as they are."""
    values = {key: value for key, value in summary.items() if key not in ("format", "sha256")}
    digests = {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in summary["sha256"]
        if name != "summary.json"
    }
    sealed = {**digests, "summary.json": json_sha256([values, digests])}
    return json.dumps({"format": summary["format"], **values, "sha256": sealed}).encode()


def _at(folder):
    """The folder of the results of `one`."""
    (stored,) = stored_settings(folder / "results/one")
    return stored.results.folder


def _shown(name="summary.json"):
    """Run all commands that read this file, and return whether all succeed.

    A saved probe is loaded, or refused in one line.
    """
    reports = (["report", "--run", "one"], ["report", "--run", "one", "--json"])
    codes = [main(words) for words in (*reports, *READERS[name])]
    or_one_line(lambda: load("results/one", layer=1))
    assert set(codes) <= {0, 1}
    return not any(codes)


def test_the_whole_results_are_shown(folder):
    assert _shown()
    summary = json.loads((_at(folder) / "summary.json").read_bytes())
    place = Place(_at(folder) / "summary.json")
    assert place.with_body(_reseal(_at(folder), summary), _shown)


@some
@given(data=st.data())
def test_a_summary_with_another_value_is_shown_or_one_line(folder, data):
    place = Place(_at(folder) / "summary.json")
    values = json.loads(place.whole)
    sealed = {key: value for key, value in values.items() if key != "sha256"}
    other = data.draw(edited(sealed))
    if isinstance(other, dict) and "format" in other:
        other = {**other, "sha256": values["sha256"]}
        place.with_body(_reseal(_at(folder), other), _shown)
    else:
        place.with_body(json.dumps(other).encode(), _shown)


@some
@given(data=st.data())
def test_damaged_bytes_of_a_summary_are_one_line(folder, data):
    place = Place(_at(folder) / "summary.json")
    body = data.draw(damaged(place.whole))
    shown = place.with_body(body, _shown)
    assert not shown or json.loads(body) == json.loads(place.whole)


def _with_file(folder, name, body):
    """Show results in which a file has another body and the right digest."""
    return _called_with_file(folder, name, body, lambda: _shown(name))


def _called_with_file(folder, name, body, call):
    """Call with results in which a file has another body and the right digest."""
    results = _at(folder)
    file, summary = Place(results / name), Place(results / "summary.json")
    values = json.loads(summary.whole)

    def sealed():
        return summary.with_body(_reseal(results, values), call)

    return file.with_body(body, sealed)


@some
@given(data=st.data())
def test_scores_with_another_value_are_shown_or_one_line(folder, data):
    lines = (_at(folder) / "scores.jsonl").read_bytes().splitlines()
    scores = data.draw(edited([json.loads(line) for line in lines]))
    scores = scores if isinstance(scores, list) else [scores]
    _with_file(folder, "scores.jsonl", b"".join(json.dumps(s).encode() + b"\n" for s in scores))


@settings(few, max_examples=6)
@given(body=st.binary(max_size=60) | JSON)
@example(DEEP)
@example(b"")
def test_anything_else_in_the_place_of_a_file_is_shown_or_one_line(folder, body):
    for name in READERS:
        if name != "summary.json":
            _with_file(folder, name, body)


@some
@given(data=st.data())
def test_a_card_of_probes_with_another_value_is_one_line(folder, data):
    card = json.loads((_at(folder) / "probes/card.json").read_bytes())
    _with_file(folder, "probes/card.json", json.dumps(data.draw(edited(card))).encode())


def _npz(arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


ODD_ARRAYS = [
    np.zeros(0), np.zeros((0, 3)), np.float64(1), np.array(["a", "b"]), np.full(3, np.nan),
    np.array([1 + 2j]), np.zeros(3, "datetime64[s]"), np.zeros(2, [("a", int)]), np.array([-1, 99]),
    np.zeros((2, 2, 2, 2, 2)), np.array([b"\xff"]), np.array([2**63], np.uint64), np.array([np.inf]),
]  # fmt: skip


@some
@given(data=st.data())
@pytest.mark.parametrize("name", ["predictions.npz", "estimates.npz", "probes/001.npz"])
def test_arrays_of_another_shape_or_type_are_shown_or_one_line(folder, name, data):
    with np.load(_at(folder) / name, allow_pickle=False) as file:
        arrays = dict(file)
    key = data.draw(st.sampled_from(sorted(arrays)))
    whole = arrays.pop(key)
    kind = data.draw(st.sampled_from(["gone", "odd", "short", "turned", "type"]))
    if kind == "odd":
        arrays[key] = data.draw(st.sampled_from(ODD_ARRAYS))
    elif kind == "short" and whole.ndim:
        arrays[key] = whole[: len(whole) // 2]
    elif kind == "turned":
        arrays[key] = whole.T[..., None]
    elif kind == "type":
        arrays[key] = whole.astype(str)
    _with_file(folder, name, _npz(arrays))


def _hostile_archives():
    header = b"\x93NUMPY\x01\x00v\x00{'descr': '%s', 'fortran_order': False, 'shape': %s}"
    for descr, shape in (
        ("<f8", "(1099511627776,)"), ("<f8", "(9223372036854775807, 9)"), ("|O", "(1,)"),
        ("<f8", "(-1,)"), ("<f8", "(1000000000000,)"), ("<U1000000000", "(9,)"), ("x", "(1,)"),
        ("<f8", "("), ("<f8", "(1e5,)"), ("<f8", "(True,)"), ("|V99999999999", "(1,)"),
    ):  # fmt: skip
        yield (header % (descr.encode(), shape.encode())).ljust(127) + b"\n" + bytes(64)
    yield b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535
    yield b"\x93NUMPY\x03\x00\xff\xff\xff\x7f" + b" " * 100


@pytest.mark.parametrize("member", _hostile_archives())
@pytest.mark.parametrize("name", ["predictions.npz", "estimates.npz", "probes/001.npz"])
def test_a_hostile_array_is_one_line(folder, name, member):
    file = io.BytesIO()
    with (
        zipfile.ZipFile(_at(folder) / name) as old,
        zipfile.ZipFile(file, "w") as new,
    ):
        first, *others = old.namelist()
        for other in others:
            new.writestr(other, old.read(other))
        new.writestr(first, member)
    _with_file(folder, name, file.getvalue())


def _bomb(name, start, n_zeros):
    """A zip archive of one member, which is `start` and at least `n_zeros` zeros.

    A block of zeros is compressed once: after a full flush, it is the same bytes wherever it
    stands. The checksum is wrong, which a reader learns once it has read everything.
    """
    packer = zlib.compressobj(wbits=-15)
    head = packer.compress(start) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(1 << 24)) + packer.flush(zlib.Z_FULL_FLUSH)
    n_blocks = -(-n_zeros >> 24)
    packed = head + block * n_blocks + packer.flush()
    entry = zipfile.ZipInfo(name)
    entry.compress_type, entry.CRC, entry.header_offset = zipfile.ZIP_DEFLATED, 1, 0
    entry.compress_size, entry.file_size = len(packed), len(start) + (n_blocks << 24)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        file.write(entry.FileHeader() + packed)
        archive.filelist.append(entry)
        archive.start_dir, archive._didModify = file.tell(), True
    return file.getvalue()


def test_a_zip_bomb_is_one_line(folder):
    header = (
        b"\x93NUMPY\x01\x00v\x00{'descr': '|u1', 'fortran_order': False, 'shape': (3000000000,)}"
    ).ljust(127) + b"\n"
    bomb = _bomb("coef.npy", header, 3_000_000_000)
    with zipfile.ZipFile(io.BytesIO(bomb)) as archive:
        (member,) = archive.infolist()
        assert member.file_size > 3e9 and len(bomb) < 4e6
        with archive.open(member) as entry:
            assert entry.read(10**8) == header + bytes(10**8 - len(header))
    refused = []

    def loaded():
        with pytest.raises(VspError, match=r"entry 'coef\.npy' is compressed") as caught:
            load("results/one", layer=1)
        refused.append(caught)
        _shown("probes/001.npz")

    _called_with_file(folder, "probes/001.npz", bomb, loaded)
    assert refused
