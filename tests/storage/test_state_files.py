"""Files of states are read as they are, or refused in one line before they take memory or run code."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest
import torch
from helpers.foreign_states import research_arrays, write_pt, write_research, write_vllm
from safetensors.torch import save_file

from vsp.errors import StoreError
from vsp.storage.plain_strings import NotPlainError, read_plain_strings
from vsp.storage.state_files import open_state_file


def _npy(array):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f4", "<f8"])
def test_every_layer_of_a_research_file_is_the_stored_one(tmp_path, save, dtype):
    arrays = research_arrays(dtype=dtype)
    save(tmp_path / "a.npz", **arrays)
    opened = open_state_file(tmp_path / "a.npz")
    wanted = arrays["representations"].astype("f2" if dtype == "<f2" else "f4")
    assert opened.dtype == wanted.dtype.name
    assert (opened.n_layers, opened.hidden_size, len(opened)) == (3, 8, 120)
    for layer in range(3):
        assert np.array_equal(opened.layer(layer), wanted[:, layer])
    assert np.array_equal(np.concatenate(list(opened.blocks())), wanted)
    assert opened.label.tolist() == arrays["labels"].tolist()
    assert opened.group.tolist() == arrays["image_ids"].tolist()
    assert len(set(opened.id)) == 120


def test_the_convention_of_transformers_is_assumed_and_said(tmp_path):
    write_research(tmp_path / "a.npz")
    opened = open_state_file(tmp_path / "a.npz")
    assert opened.convention.layers == (0, 1, 2) and opened.convention.last == "normed"
    assert opened.convention.assumed and any("assumed: layers 0-2" in note for note in opened.notes)
    told = open_state_file(tmp_path / "a.npz", layers=[4, 8, 12], last="raw")
    assert told.convention.layers == (4, 8, 12) and told.convention.last == "raw"
    assert not told.convention.embeddings_first and not told.convention.assumed
    assert not any("assumed" in note for note in told.notes)
    with pytest.raises(StoreError, match="are 2, but the file has 3 entries"):
        open_state_file(tmp_path / "a.npz", layers=[0, 1])


def test_plain_strings_of_object_arrays_are_read(tmp_path):
    labels = ["left", "right", "lé" * 200] * 40
    for protocol in (3, 4, 5):
        assert read_plain_strings(pickle.dumps(np.array(labels, object), protocol)) == labels
    write_research(tmp_path / "a.npz", labels=np.array(["x"] * 120, object), image_ids=None)
    opened = open_state_file(tmp_path / "a.npz")
    assert set(opened.label) == {"x"} and opened.group.tolist() == opened.id.tolist()
    assert any("no image ids" in note for note in opened.notes)


class _Harm:
    def __reduce__(self):
        return os.system, ("touch harmed",)


class _Text(str):
    def __reduce__(self):
        return os.system, ("touch harmed",)


NOT_PLAIN = {
    "a call": (np.array([_Harm()], object), "names 'posix.system'"),
    "a subclass of str": (np.array([_Text("a")], object), "names 'posix.system'"),
    "a number": (np.array(["a", 1], object), "holds a int"),
    "bytes": (np.array([b"a"], object), "holds a bytes"),
    "a text of numpy": (np.array([np.str_("a"), None], object)[:1], "multiarray.scalar"),
    "none": (np.array([None], object), "holds a NoneType"),
    "a list": (np.array([["a"], "b"], object), "holds a list"),
    "two axes": (np.array([["a", "b"]], object), "one axis"),
}


@pytest.mark.parametrize("name", NOT_PLAIN)
def test_an_object_array_of_anything_else_is_refused_and_runs_nothing(work, name):
    array, why = NOT_PLAIN[name]
    pickled = pickle.dumps(array, 4)
    with pytest.raises(NotPlainError, match=why):
        read_plain_strings(pickled)
    write_research(work / "a.npz", labels=array)
    with pytest.raises(StoreError, match=r"dtype=str|one axis"):
        open_state_file(work / "a.npz")
    for end in range(0, len(pickled), 7):  # a damaged pickle
        with pytest.raises(NotPlainError):
            read_plain_strings(pickled[:end])
    assert not (work / "harmed").exists()


def _zip(path, entries, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, body in entries.items():
            archive.writestr(f"{name}.npy", body)


def _claiming(shape, descr="<f4", body=b""):
    header = repr({"descr": descr, "fortran_order": False, "shape": shape})
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + body


ARRAYS = research_arrays()
LABELS = _npy(ARRAYS["labels"])
HOSTILE = {
    "a header that claims more": ({"representations": _claiming((1 << 40, 3, 8)), "labels": LABELS},
                                  r"claims 106 TB of shape .*, it has 0 bytes"),
    "a header that claims less": (
        {"representations": _claiming((1, 3, 8), body=bytes(960)), "labels": LABELS}, "claims 96 bytes"),
    "a negative shape": (
        {"representations": _claiming((-2, -3, 4), body=bytes(96)), "labels": LABELS}, "claims 96 bytes"),
    "no rows": ({"representations": _claiming((0, 3, 8)), "labels": _npy(np.array([], str))}, "no states"),
    "two axes": ({"representations": _npy(np.zeros((120, 8), "f4")), "labels": LABELS}, "sample, layer, hidden"),
    "whole numbers": ({"representations": _npy(np.zeros((120, 3, 8), int)), "labels": LABELS}, "float16"),
    "objects": ({"representations": _npy(np.full((1, 1, 1), None)), "labels": LABELS}, "float16, float32"),
    "Fortran order": ({"representations": _npy(np.asfortranarray(ARRAYS["representations"])),
                       "labels": LABELS}, "ascontiguousarray"),
    "no labels": ({"representations": _npy(ARRAYS["representations"])}, "has no array 'labels'"),
    "other labels": ({"representations": _npy(ARRAYS["representations"]),
                      "labels": _npy(np.array(["a"]))}, "1 labels for 120 rows"),
    "an empty label": ({"representations": _npy(np.zeros((2, 1, 1), "f4")),
                        "labels": _npy(np.array(["", "a"]))}, "1 row without label, first row 0"),
    "a huge label": ({"representations": _npy(np.zeros((2, 1, 1), "f4")),
                      "labels": _npy(np.array(["a", "b" * 300]))}, "300 characters, at most 200"),
    "half of a character": ({"representations": _npy(np.zeros((1, 1, 1), "f4")),
                             "labels": _npy(np.array(["\ud800"]))}, "no text of Unicode"),
    "ids twice": ({"representations": _npy(np.zeros((2, 1, 1), "f4")), "labels": _npy(np.array(["a", "b"])),
                   "ids": _npy(np.array(["x", "x"]))}, "id 'x' has 2 rows"),
    "another split": ({"representations": _npy(np.zeros((1, 1, 1), "f4")), "labels": _npy(np.array(["a"])),
                       "splits": _npy(np.array(["dev"]))}, "split 'dev' is none of"),
    "numbers as labels": ({"representations": _npy(np.zeros((1, 1, 1), "f4")),
                           "labels": _npy(np.array([0.5]))}, "dtype 'float64', not text"),
    "2**40 empty texts": ({"representations": _npy(np.zeros((1, 1, 1), "f4")),
                           "labels": _claiming((1 << 40,), "<U0")}, "labels for 1 rows"),
    "a damaged card": ({"representations": _npy(np.zeros((1, 1, 1), "f4")), "labels": _npy(np.array(["a"])),
                        "card": _npy(np.array(["{"]))}, "its card is not"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_npz_is_one_line(tmp_path, name):
    entries, why = HOSTILE[name]
    _zip(tmp_path / "a.npz", entries)
    with pytest.raises(StoreError, match=why):
        open_state_file(tmp_path / "a.npz")


@pytest.mark.parametrize("digest", ["z" * 64, "-1" + "0" * 62, "ab"])
def test_a_digest_that_is_none_is_refused_with_its_row(tmp_path, digest):
    arrays = research_arrays()
    digests = np.array(["", digest, *[""] * (len(arrays["labels"]) - 2)])
    np.savez(tmp_path / "a.npz", **arrays, image_sha256=digests)
    with pytest.raises(StoreError, match=f"image_sha256 of row 1 is '{digest}'; write 64 digits"):
        open_state_file(tmp_path / "a.npz")


def test_a_bomb_is_refused_with_its_size(tmp_path):
    n_bytes = 200_000_000
    body = _claiming((n_bytes // 4, 1, 1), body=bytes(n_bytes))
    _zip(tmp_path / "a.npz", {"representations": body, "labels": LABELS}, zipfile.ZIP_DEFLATED)
    with pytest.raises(StoreError, match=r"grows from 194 kB to 200 MB"):
        open_state_file(tmp_path / "a.npz")


def test_a_file_that_cannot_be_one_of_states_is_one_line(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 is no archive")
    (tmp_path / "b").write_text("nothing")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "zero.npz").symlink_to("/dev/zero")
    (tmp_path / "empty").mkdir()
    for name, why in (("a.npz", "is damaged"), ("b", "no whole .safetensors"), ("loop", "cannot be read"),
                      ("zero.npz", "is a device"), ("empty", "neither .pt nor"), ("none", "no such file")):  # fmt: skip
        with pytest.raises(StoreError, match=f"(?i){why}"):
            open_state_file(tmp_path / name)


@pytest.mark.parametrize(
    "how", [{}, {"dtype": "bfloat16"}, {"dtype": "float16", "as_list": True}, {"first": 2}]
)
def test_a_folder_of_pt_files_is_read_in_the_order_of_names(tmp_path, how):
    states = research_arrays(6)["representations"]
    metas = [{"rel": "ab"[i % 2], "image_id": i // 2, "note": None} for i in range(6)]
    write_pt(tmp_path / "pt", states, metas, **how)
    (tmp_path / "pt/readme.txt").touch()
    opened = open_state_file(tmp_path / "pt")
    wanted = torch.tensor(states).to(getattr(torch, how.get("dtype", "float32")))
    if opened.stored_dtype == "bfloat16":
        wanted = wanted.float()
    for layer in range(3):
        assert np.array_equal(opened.layer(layer), wanted[:, layer].numpy())
    assert opened.label.tolist() == [*"ababab"] and opened.group.tolist() == [*"001122"]
    assert opened.id.tolist() == [f"{i:04}" for i in range(6)]
    assert opened.convention.layers == tuple(range(how.get("first", 0), how.get("first", 0) + 3))
    assert "not read: 1 other file in the folder" in opened.notes
    assert "meta keys that are not read: note" in opened.notes


def _pt(folder, values):
    torch.save(values, folder / "b.pt")


TENSORS = {i: torch.zeros(8) for i in range(3)}
META = {"rel": "a"}
BAD_PT = {
    "other layers": ({"layers": {5: torch.zeros(8)}, "meta": META}, "has layers 5 of float32"),
    "another width": (
        {"layers": {i: torch.zeros(9) for i in range(3)}, "meta": META},
        r"float32 \[9\]",
    ),
    "two sizes": (
        {"layers": {0: torch.zeros(8), 1: torch.zeros(7)}, "meta": META},
        "different sizes",
    ),
    "a matrix": ({"layers": {0: torch.zeros(2, 8)}, "meta": META}, "layer 0 is torch.float32"),
    "an endless view": (
        {"layers": {0: torch.zeros(1).expand(1 << 40)}, "meta": META},
        "not a tensor of floats",
    ),
    "numbers": ({"layers": {0: [1.0]}, "meta": META}, "layer 0 is list"),
    "a layer's name": (
        {"layers": {"top": torch.zeros(8)}, "meta": META},
        "is no number of a layer",
    ),
    "no meta": ({"layers": TENSORS}, "is not {"),
    "no label": ({"layers": TENSORS, "meta": {}}, "1 row without label"),
    "two labels": (
        {"layers": TENSORS, "meta": {"rel": "a", "relationship": "b"}},
        "say different things",
    ),
    "code": ({"layers": TENSORS, "meta": META, "more": _Harm()}, "is not read"),
}


@pytest.mark.parametrize("name", BAD_PT)
def test_a_bad_pt_file_is_one_line_that_names_it(work, name):
    values, why = BAD_PT[name]
    write_pt(work / "pt", np.zeros((1, 3, 8), "f4"), [META])
    _pt(work / "pt", values)
    with pytest.raises(StoreError, match=why) as error:
        open_state_file(work / "pt")
    assert name == "no label" or "b.pt" in str(error.value)
    assert not (work / "harmed").exists()


def test_a_pt_file_that_torch_did_not_write_is_one_line(tmp_path):
    write_pt(tmp_path / "pt", np.zeros((1, 3, 8), "f4"), [META])
    whole = zipfile.ZipFile(tmp_path / "pt/0000.pt")
    with zipfile.ZipFile(tmp_path / "pt/b.pt", "w", zipfile.ZIP_DEFLATED) as packed:
        for entry in whole.infolist():
            packed.writestr(entry.filename, whole.read(entry))
    with pytest.raises(StoreError, match=r"b.pt: its entry .* is compressed"):
        open_state_file(tmp_path / "pt")
    (tmp_path / "pt/b.pt").write_bytes(pickle.dumps(_Harm()))
    with pytest.raises(StoreError, match=r"not what torch.save writes"):
        open_state_file(tmp_path / "pt")


def test_the_last_token_of_vllms_files_is_read(tmp_path):
    states = research_arrays(6)["representations"]
    rows = [{"label": "ab"[i % 2], "image": f"i{i // 2}"} for i in range(6)]
    write_vllm(tmp_path / "v", states, rows)
    with pytest.raises(StoreError, match="do not say which layers"):
        open_state_file(tmp_path / "v")
    opened = open_state_file(tmp_path / "v", layers=[1, 2, 4])
    assert opened.convention.layers == (1, 2, 4) and opened.convention.last == "raw"
    wanted = torch.tensor(states).to(torch.bfloat16).float().numpy()
    assert np.array_equal(np.concatenate(list(opened.blocks())), wanted)
    assert np.array_equal(opened.layer(2), wanted[:, 2])
    assert opened.group.tolist() == ["i0", "i0", "i1", "i1", "i2", "i2"]
    zeros = {"hidden_states": torch.zeros(2, 3, 9), "token_ids": torch.arange(2)}
    save_file(zeros, tmp_path / "v/request5.safetensors")
    with pytest.raises(StoreError, match=r"request5.safetensors: hidden_states is F32"):
        open_state_file(tmp_path / "v", layers=[1, 2, 4])
    (tmp_path / "v/rows.jsonl").write_text('{"file": "../x.safetensors", "label": "a"}\n')
    with pytest.raises(StoreError, match=r"is no .safetensors file of this folder"):
        open_state_file(tmp_path / "v", layers=[1, 2, 4])


def test_a_header_of_safetensors_that_lies_is_refused(tmp_path):
    header = {"layer.0": {"dtype": "F32", "shape": [1 << 40, 8], "data_offsets": [0, 1 << 45]}}
    text = json.dumps({"__metadata__": {"vsp": "{}"}, **header}).encode()
    (tmp_path / "a.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(64))
    with pytest.raises(StoreError, match=r"no whole .safetensors file"):
        open_state_file(tmp_path / "a.safetensors")
