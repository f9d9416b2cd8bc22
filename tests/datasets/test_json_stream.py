"""Values of a JSON list or mapping are read one by one, and are those that `json.loads` gives."""

import json
import os
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsp.datasets.json_stream import first_character, read_members, read_records
from vsp.errors import DatasetError

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text()
    | st.sampled_from(["\ud800", "\\\\\\", "é" * 9, "𝄞", '"', float("inf"), -float("inf")])
)  # fmt: skip
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8
)


def _read(folder, data, block=1 << 20):
    path = folder / "list.json"
    path.write_bytes(data)
    return list(read_records(path, block))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("records")


def _same(found, expected):
    return repr(found) == repr(expected)  # equal for NaN too


@given(
    st.lists(values, min_size=1, max_size=6),
    st.booleans(),
    st.sampled_from([None, 0, 3, 60]),
    st.integers(1, 40),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32-le"]),
)
def test_values_are_those_of_json_wherever_blocks_end(
    folder, records, ascii_only, indent, block, encoding
):
    text = f" \n{json.dumps(records, ensure_ascii=ascii_only, indent=indent)}\r\n\t "
    data = text.encode(encoding, "surrogatepass")
    assert _same(_read(folder, data, block), json.loads(data))


@pytest.mark.parametrize(
    "value",
    ["12345", "-1.5e+10", "-Infinity", "NaN", "true", "null", r'"\ud834\udd1e"', '"𝄞é"', r'"\\"',
     '{"a" : 1 , "b" : [ ] }', "[1, 2]", '"' + "x" * 99 + '"'],
)  # fmt: skip
def test_a_block_may_end_anywhere_in_a_value(folder, value):
    data = f"[{value} , {value}]".encode()
    for block in range(1, len(data) + 1):
        assert _same(_read(folder, data, block), json.loads(data)), block


@given(st.lists(values, min_size=1, max_size=4), st.data(), st.integers(1, 40))
def test_a_file_is_refused_where_json_refuses_it_and_taken_where_json_takes_it(
    folder, records, data, block
):
    """One character is replaced, removed or added, or the text ends early."""
    text = json.dumps(records, ensure_ascii=False, indent=data.draw(st.sampled_from([None, 1])))
    at = data.draw(st.integers(0, len(text)))
    put = data.draw(st.sampled_from(["", ",", "]", "[", "}", '"', "\\", "1", "x", "\n", "-"]))
    text = text[:at] + put + data.draw(st.sampled_from([text[at:], text[at + 1 :], ""]))
    path = folder / "damaged.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        expected = json.loads(path.read_bytes())
    except json.JSONDecodeError as error:
        with pytest.raises(DatasetError, match=r"damaged\.json: is not JSON: ") as caught:
            list(read_records(path, block))
        if "trailing comma" not in error.msg:  # Python 3.13 reports another place
            where = f": line {error.lineno} column {error.colno} (char {error.pos})"
            assert str(caught.value).endswith(where), error
        return
    if isinstance(expected, list) and expected:
        assert _same(list(read_records(path, block)), expected)
    else:
        with pytest.raises(DatasetError, match="holds no list of records"):
            list(read_records(path, block))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is not JSON: Expecting value: line 1 column 1 (char 0)"),
        (b"\xef\xbb\xbf", "is not JSON: Expecting value: line 1 column 1 (char 0)"),
        (b"{}", "holds no list of records; write [{...}, ...]"),
        (b" [ ] \n", "holds no list of records; write [{...}, ...]"),
        (b"[", "is not JSON: Expecting value: line 1 column 2 (char 1)"),
        (b"[1]\n[2]", "is not JSON: Extra data: line 2 column 1 (char 4)"),
        (
            b'[{"a": 1},\n {"a" 2}]',
            "is not JSON: Expecting ':' delimiter: line 2 column 7 (char 17)",
        ),
        (b'[{"a": 1},\n {"a": "x', "is not JSON: Unterminated string starting at: line 2 column 8"),
        (b'["ok", "\xff"]', "is not JSON: byte 8 is not utf-8 (invalid start byte)"),
        (b'["\xc3', "is not JSON: byte 2 is not utf-8 (unexpected end of data)"),
        (b"[" * 100_000, "is not JSON: Nested too deeply: line 1 column 2"),
        (b"[1, " + b"9" * 5000 + b"]", "is not JSON: A number with thousands of digits"),
    ],
)
@pytest.mark.parametrize("block", [5, 1 << 20])
def test_what_is_wrong_is_said_in_one_line_with_its_place(folder, data, message, block):
    with pytest.raises(DatasetError) as caught:
        _read(folder, data, block)
    assert f"list.json: {message}" in str(caught.value) and "\n" not in str(caught.value)


def test_one_value_at_a_time_is_in_memory(folder):
    path = folder / "long.json"
    path.write_text(json.dumps([{"id": i, "text": "x" * 400} for i in range(20_000)]))
    list(read_records(path))  # allocates what is kept for later calls
    tracemalloc.start()
    n = sum(1 for _ in read_records(path, 1 << 16))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert n == 20_000 and peak < 1 << 20 < path.stat().st_size / 8


def _members(folder, data, block=1 << 20):
    path = folder / "mapping.json"
    path.write_bytes(data)
    return list(read_members(path, block))


@given(
    st.dictionaries(st.text(), values, min_size=1, max_size=6),
    st.booleans(),
    st.sampled_from([None, 0, 3]),
    st.integers(1, 40),
)
def test_members_of_a_mapping_are_those_of_json_wherever_blocks_end(
    folder, members, ascii_only, indent, block
):
    text = f" {json.dumps(members, ensure_ascii=ascii_only, indent=indent)}\n"
    data = text.encode("utf-8", "surrogatepass")
    assert _same(_members(folder, data, block), list(json.loads(data).items()))


@given(st.dictionaries(st.text(), values, min_size=1, max_size=4), st.data(), st.integers(1, 40))
def test_a_mapping_is_refused_where_json_refuses_it(folder, members, data, block):
    text = json.dumps(members, ensure_ascii=False)
    at = data.draw(st.integers(0, len(text)))
    put = data.draw(st.sampled_from(["", ",", "]", "{", "}", '"', ":", "1", "x"]))
    text = text[:at] + put + data.draw(st.sampled_from([text[at:], text[at + 1 :], ""]))
    path = folder / "damaged.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    pairs = json.JSONDecoder(object_pairs_hook=lambda found: found)
    try:
        expected = json.loads(path.read_bytes())
    except json.JSONDecodeError as error:
        with pytest.raises(DatasetError, match="is not JSON: ") as caught:
            list(read_members(path, block))
        if "trailing comma" not in error.msg:  # Python 3.13 reports another place
            where = f": line {error.lineno} column {error.colno} (char {error.pos})"
            assert str(caught.value).endswith(where), error
        return
    if isinstance(expected, dict) and expected:
        # Repeated keys are given each time.
        keys = [key for key, _ in pairs.decode(path.read_bytes().decode("utf-8", "surrogatepass"))]
        assert [key for key, _ in read_members(path, block)] == keys
    else:
        with pytest.raises(DatasetError, match="holds no mapping"):
            list(read_members(path, block))


def test_the_first_character_tells_a_list_from_a_mapping(folder):
    path = folder / "mark.json"
    for data, mark in (
        (b" \n [1]", "["),
        (b"\xef\xbb\xbf{", "{"),
        (b" " * 99 + b"{}", "{"),
        (b"", ""),
    ):
        path.write_bytes(data)
        assert first_character(path) == mark


@pytest.mark.parametrize("read", [read_records, read_members])
def test_a_file_that_is_no_regular_file_is_one_line_at_once(tmp_path, read):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name, said in (
        ("pipe", "is a named pipe"),
        ("folder", "is a directory"),
        ("none", "no such"),
    ):
        with pytest.raises(DatasetError, match=f"cannot be read .{said}.*; give a readable file"):
            next(read(tmp_path / name))
    with pytest.raises(DatasetError, match="is a device, not a regular file"):
        next(read(Path("/dev/zero")))


@pytest.mark.parametrize("fill", [b'"x', b"[],", b'{"a":'])
def test_a_value_without_an_end_takes_bounded_memory(tmp_path, fill):
    path = tmp_path / "a.json"
    path.write_bytes(b'[{"a": [' + fill * (5 * (1 << 22) // len(fill)))
    started = time.process_time()
    with pytest.raises(DatasetError, match=r"more than 16,777,216|Nested|delimiter"):
        next(read_records(path))
    assert time.process_time() - started < 10
