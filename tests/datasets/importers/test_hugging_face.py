"""Parquet files, image folders and saved datasets of Hugging Face, read with pyarrow alone."""

import base64
import json
import struct
import subprocess
import sys
import zlib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.arrow import png, save_to_disk, table, write_parquet
from helpers.paths import ROOT

from vsp.datasets.importers import arrow_files
from vsp.datasets.importers.import_request import ImportRequest
from vsp.datasets.importers.pipeline import import_dataset
from vsp.errors import ConfigError, DatasetError, VspError

LABELS = ["left of", "right of"]


def _import(source, path, out, images=(), check=False, **options):
    request = ImportRequest(source, [str(path)], out, images, options=options, check=check)
    imported = import_dataset(request, out.parent)
    return imported, json.loads((out / "metadata.json").read_text())


def _refusal(source, path, out, **options):
    with pytest.raises(VspError) as caught:
        _import(source, path, out, **options)
    return "\n".join((str(caught.value), *caught.value.details))


def _questions(n=4):
    """Rows with pictures, options and numbers as answers; the third has no picture of its own."""
    pictures = [{"bytes": png(i % 2), "path": f"{i}.png"} for i in range(n)]
    return {
        "image": pictures,
        "question": [f"Where is it, {i}?" for i in range(n)],
        "choices": [LABELS] * n,
        "answer": [i % 2 for i in range(n)],
        "solution": ["long text"] * n,
    }


def test_a_label_beside_an_answer_is_not_read_and_said(tmp_path, caplog):
    caplog.set_level("INFO")
    write_parquet(
        tmp_path / "data.parquet", {**_questions(), "label": [0] * 4, "prompt": ["?"] * 4}
    )
    _, records = _import("parquet", tmp_path / "data.parquet", tmp_path / "out")
    assert sorted(record["label"] for record in records) == sorted(LABELS * 2)
    assert "columns that are not read: solution, label, prompt" in caplog.text


@pytest.mark.parametrize("source", ["parquet", "load_from_disk"])
@pytest.mark.parametrize("split", ["", "test"])
def test_pictures_and_options_of_rows_become_a_dataset(tmp_path, source, split, caplog):
    caplog.set_level("INFO")
    if source == "parquet":
        write_parquet(tmp_path / "data" / f"{split or 'all'}-00000-of-00001.parquet", _questions())
    else:
        save_to_disk(tmp_path / "data" / split, _questions())
        if split:
            (tmp_path / "data/dataset_dict.json").write_text(json.dumps({"splits": [split]}))
    imported, records = _import(source, tmp_path / "data", tmp_path / "out", check=True)
    records.sort(key=lambda record: record["prompt"])
    assert [record["label"] for record in records] == LABELS * 2
    assert all(record["options"] == LABELS for record in records)
    noted = f"{tmp_path / 'data'}: splits {split}, from the names of its files" in imported.notes
    assert noted == bool(split)
    assert "wrote 2 pictures of the annotations to images/embedded" in imported.notes
    for i, record in enumerate(records):
        assert (tmp_path / "out/images" / record["image_filename"]).read_bytes() == png(i % 2)
    assert caplog.text.count("columns that are not read: solution") == 1
    card = json.loads((tmp_path / "out/dataset.json").read_text())
    assert len(card["annotations"][0]["sha256"]) == 64


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"row_group_size": 70},
        {"dictionary_pagesize_limit": 1 << 12, "data_page_size": 1 << 10},
        {"use_dictionary": False, "data_page_version": "2.0", "compression": "zstd"},
    ],
)
def test_every_row_of_every_row_group_is_read(tmp_path, options):
    columns = _questions(500)
    columns["image"] = [{"bytes": png(i, (4, 4)), "path": f"{i}.png"} for i in range(500)]
    path = write_parquet(tmp_path / "a.parquet", columns, **options)
    rows = list(arrow_files.arrow_rows(path, columns.__contains__))
    assert [place for place, _ in rows] == [f"row {i}" for i in range(500)]
    assert [row for _, row in rows] == [
        {name: values[i] for name, values in columns.items()} for i in range(500)
    ]


@pytest.mark.parametrize("source", ["parquet", "load_from_disk"])
def test_numbers_with_names_become_their_names(tmp_path, source):
    columns = {"image": [png(0), png(1), png(2)], "label": [1, 0, -1]}
    names = {"label": ["cat", "dog"]}
    write = write_parquet if source == "parquet" else save_to_disk
    path = write(tmp_path / "data.parquet", columns, names)
    assert "has a label and no question; ask one about each image with" in _refusal(
        source, path, tmp_path / "none"
    )
    _, records = _import(source, path, tmp_path / "out", question="What is it?")
    assert [(r["prompt"], r["label"]) for r in records] == [
        ("What is it?", "dog"),
        ("What is it?", "cat"),
    ]
    dropped = (tmp_path / "out/dropped.csv").read_text()
    assert "row 2" in dropped and "incomplete" in dropped


def test_letters_and_relations_are_columns_too(tmp_path):
    path = write_parquet(
        tmp_path / "a.parquet",
        {"image": [png()], "question": ["Where?"], "A": ["left"], "B": ["right"], "answer": ["B"]},
    )
    _, (record,) = _import("parquet", path, tmp_path / "letters")
    assert record["label"] == "right" and record["options"] == ["left", "right"]
    path = write_parquet(
        tmp_path / "b.parquet",
        {"image": [png()], "subject": ["cup"], "object": ["plate"], "relation": ["left of"]},
    )
    _, (record,) = _import("parquet", path, tmp_path / "relations")
    assert (record["subject"], record["label"]) == ("cup", "left_of")


def test_empty_cells_of_letters_are_no_options_and_a_letter_alone_is_no_label(tmp_path):
    row = {"image": [png()], "question": ["Where?"], "answer": ["B"]}
    empty = {"A": ["left"], "B": ["right"], "C": [""], "D": [float("nan")], "E": [None]}
    _, (record,) = _import(
        "parquet", write_parquet(tmp_path / "a.parquet", {**row, **empty}), tmp_path / "out"
    )
    assert record["label"] == "right" and record["options"] == ["left", "right"]
    alone = write_parquet(tmp_path / "b.parquet", row)
    assert "has the answer 'B' and no options" in _refusal("parquet", alone, tmp_path / "none")
    _, (record,) = _import("parquet", alone, tmp_path / "text", answer="text")
    assert record["label"] == "B"


def test_rows_with_several_pictures_are_dropped_and_counted(tmp_path):
    columns = {**_questions(3), "image_2": [None, {"bytes": png(7), "path": None}, None]}
    columns["images"] = [[], [], [{"bytes": png(8), "path": None}]]
    imported, records = _import(
        "parquet", write_parquet(tmp_path / "a.parquet", columns), tmp_path / "out"
    )
    (part,) = imported.funnel["parts"].values()
    assert {step["why"]: step["rows"] for step in part["dropped"] if step["rows"]} == {
        "several-images": 2
    }
    assert len(records) == 1


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_an_image_folder_is_read_by_its_metadata(tmp_path, kind):
    for split in ("train", "test"):
        folder = tmp_path / "pets" / split
        folder.mkdir(parents=True)
        (folder / "a.png").write_bytes(png(len(split)))
        row = {"file_name": "a.png", "prompt": "Where?", "label": f"here {split}"}
        if kind == "csv":
            (folder / "metadata.csv").write_text("\n".join(map(",".join, (row, row.values()))))
        elif kind == "jsonl":
            (folder / "metadata.jsonl").write_text(json.dumps(row))
        else:
            write_parquet(folder / "metadata.parquet", {key: [text] for key, text in row.items()})
    _, records = _import("imagefolder", tmp_path / "pets", tmp_path / "out", check=True)
    assert {(r["image_filename"], r["split"], r["label"]) for r in records} == {
        ("pets/train/a.png", "train", "here train"), ("pets/test/a.png", "test", "here test")
    }  # fmt: skip


def test_an_image_folder_has_a_folder_for_each_label(tmp_path):
    for place in ("train/cat/1.png", "train/dog/1.png", "test/cat/1.png"):
        path = tmp_path / "pets" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(len(place) + len(path.parent.name)))
    _, records = _import("imagefolder", tmp_path / "pets", tmp_path / "out", question="Which?")
    assert sorted((r["image_filename"], r["split"], r["label"]) for r in records) == [
        ("pets/test/cat/1.png", "test", "cat"),
        ("pets/train/cat/1.png", "train", "cat"),
        ("pets/train/dog/1.png", "train", "dog"),
    ]


@pytest.mark.parametrize("name", ["../../secret.png", "/etc/secret.png", "a/../../secret.png"])
def test_a_file_name_that_leads_out_of_the_folder_is_refused(tmp_path, name):
    (tmp_path / "pets").mkdir()
    (tmp_path / "secret.png").write_bytes(png())
    row = {"file_name": name, "prompt": "?", "label": "x"}
    (tmp_path / "pets/metadata.jsonl").write_text(json.dumps(row))
    assert f"line 1 has the file_name {name!r}, which leads out of its folder" in _refusal(
        "imagefolder", tmp_path / "pets", tmp_path / "out"
    )


@pytest.mark.parametrize("name", ["../a.arrow", "/etc/passwd", "a\0b", "..", "", None, "x\\y"])
def test_a_saved_dataset_names_only_files_in_its_folder(tmp_path, name):
    folder = save_to_disk(tmp_path / "data", _questions(), _data_files=[{"filename": name}])
    assert "give a name in this folder" in _refusal("load_from_disk", folder, tmp_path / "out")
    (tmp_path / "data/dataset_dict.json").write_text(json.dumps({"splits": [name]}))
    assert "give a name in this folder" in _refusal("load_from_disk", folder, tmp_path / "out")


def test_a_link_out_of_a_saved_dataset_is_refused(tmp_path):
    folder = save_to_disk(tmp_path / "data", _questions(), _data_files=[{"filename": "l.arrow"}])
    (folder / "l.arrow").symlink_to(
        save_to_disk(tmp_path / "b", _questions()) / "data-00000-of-00001.arrow"
    )
    assert "l.arrow: leads out of its folder" in _refusal(
        "load_from_disk", folder, tmp_path / "out"
    )


def test_rows_that_an_index_chooses_are_refused(tmp_path):
    folder = save_to_disk(tmp_path / "data", _questions(), _indices_data_files=[{"filename": "i"}])
    assert "call flatten_indices()" in _refusal("load_from_disk", folder, tmp_path / "out")


def _bomb(width, height):
    """A PNG of some bytes that claims many pixels."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("size", [(10_000, 10_000), (60_000, 60_000)])
@pytest.mark.parametrize("source", ["parquet", "load_from_disk", "csv"])
def test_a_picture_with_too_many_pixels_is_refused_with_the_figure(tmp_path, source, size):
    columns = {"image": [_bomb(*size)], "prompt": ["?"], "label": ["x"]}
    if source == "csv":
        rows = [{"image": base64.b64encode(_bomb(*size)).decode(), "prompt": "?", "label": "x"}]
        path = tmp_path / "a.json"
        path.write_text(json.dumps(rows))
    else:
        write = write_parquet if source == "parquet" else save_to_disk
        path = write(tmp_path / "a.parquet", columns)
    message = _refusal(source, path, tmp_path / "out")
    assert "has an image that is too large" in message
    assert "more than 89,478,485 pixels; scale it down" in message
    assert not (tmp_path / "out").exists()


def test_a_column_that_expands_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(arrow_files, "_MAX_GROUP", 1 << 20)  # making a gigabyte takes too long here
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", None)
    columns = {"image": [bytes(1 << 20)] * 3, "prompt": ["?"] * 3, "label": ["x"] * 3}
    path = write_parquet(tmp_path / "a.parquet", columns, use_dictionary=False, compression="zstd")
    assert path.stat().st_size < 1 << 14
    assert "row group 0 takes 3.15 MB uncompressed, at most 1.05 MB are read; write" in _refusal(
        "parquet", path, tmp_path / "out"
    )


def test_a_value_that_all_rows_repeat_takes_no_memory_for_each(tmp_path):
    large, n = bytes(10 << 20), 100
    column = pa.DictionaryArray.from_arrays(pa.array([0] * n, pa.int32()), pa.array([large]))
    options = {"store_schema": False, "compression": "zstd"}
    path = write_parquet(tmp_path / "a.parquet", {"image": column}, **options)
    assert path.stat().st_size < 1 << 14
    code = (
        "import sys\nfrom pathlib import Path\nfrom vsp.datasets.importers.arrow_files import arrow_rows\n"
        "print(sum(len(row['image']) for _, row in arrow_rows(Path(sys.argv[1]), bool)))\n"
        "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    )
    said = subprocess.run(
        [sys.executable, "-c", code, path], check=True, cwd=ROOT, capture_output=True
    )
    n_bytes, kilobytes = map(int, said.stdout.split())
    assert n_bytes == n * len(large) and kilobytes < 300_000  # together, they would take 1 GB


def test_a_list_of_very_many_values_is_refused(tmp_path):
    n = (1 << 24) + 1
    lists = pa.ListArray.from_arrays(pa.array([0, n], pa.int32()), pa.nulls(n, pa.string()))
    path = write_parquet(tmp_path / "a.parquet", {**_questions(1), "choices": lists})
    assert "16,777,217 values in the lists of choices" in _refusal(
        "parquet", path, tmp_path / "out"
    )


def test_offsets_that_lead_out_of_a_stream_are_refused(tmp_path):
    buffers = [None, pa.py_buffer(struct.pack("<3i", 0, 1 << 30, 4)), pa.py_buffer(b"abcd")]
    prompts = pa.Array.from_buffers(pa.string(), 2, buffers)
    batch = pa.record_batch({"image": ["a.png"] * 2, "prompt": prompts, "label": ["x"] * 2})
    path = tmp_path / "a.arrow"
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, batch.schema) as out:
        out.write_batch(batch)
    assert "cannot be read as Parquet or as an Arrow stream" in _refusal(
        "parquet", path, tmp_path / "out"
    )


@pytest.mark.parametrize("dictionary", [False, True])
def test_a_compressed_stream_is_refused(tmp_path, dictionary):
    data = table(_questions())
    if dictionary:
        data = table({"prompt": pa.array(["long " * 99] * 4).dictionary_encode()})
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(sink, data.schema, options=options) as out:
        out.write_table(data)
    messages = list(pa.ipc.MessageReader.open_stream(sink.getvalue()))
    kept = messages[:2]  # the schema, and the batch of the dictionary or of the rows
    path = tmp_path / "a.arrow"
    path.write_bytes(b"".join(message.serialize().to_pybytes() for message in kept))
    assert "a compressed Arrow stream, which cannot be bounded" in _refusal(
        "parquet", path, tmp_path / "out"
    )


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
@pytest.mark.parametrize("change", ["cut", "zeros", "noise"])
def test_a_damaged_file_is_refused_in_one_line(tmp_path, kind, change):
    if kind == "parquet":
        path = write_parquet(tmp_path / "a.parquet", _questions())
    else:
        path = save_to_disk(tmp_path, _questions()) / "data-00000-of-00001.arrow"
    data = bytearray(path.read_bytes())
    third = len(data) // 3
    if change == "cut":
        del data[2 * third :]
    else:
        data[third : 2 * third] = (
            bytes(third) if change == "zeros" else bytes(range(256)) * (third // 256 + 1)
        )
    path.write_bytes(data)
    with pytest.raises(DatasetError) as caught:
        _import("parquet", path, tmp_path / "out")
    assert len(str(caught.value)) < 700


def test_an_object_array_is_no_annotation_file(tmp_path):
    import pickle

    path = tmp_path / "a.parquet"
    path.write_bytes(pickle.dumps([{"image": "a.png", "prompt": "?", "label": "x"}]))
    assert "a.parquet: " in _refusal("parquet", path, tmp_path / "out")


def test_without_pyarrow_the_command_to_install_it_is_named(tmp_path, monkeypatch):
    path = write_parquet(tmp_path / "a.parquet", _questions())
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"need pyarrow.*: pip install 'vsp\[parquet\]'"):
        _import("parquet", path, tmp_path / "out")


def test_pyarrow_is_imported_for_arrow_files_only(tmp_path):
    code = (
        "import sys, vsp.datasets.importers.hugging_face, vsp.datasets.importers.spatialrgpt_bench\n"
        "assert 'pyarrow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
