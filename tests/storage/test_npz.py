"""Arrays of a stranger are read as they are, or refused before they take memory."""

import io
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from vsp.storage.npz import ArraysError, read_arrays, write_arrays
from vsp.utils.peak_memory import PeakMemory

ARRAYS = {
    "a": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "b": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "c": np.zeros((3, 0), np.int16),
    "d": np.array([["x", "yü"]]),
    "e": np.array(True),
}


def _npy(shape, descr="<f8", body=b"", text=None):
    """A `.npy` file whose header claims this shape."""
    header = text or repr({"descr": descr, "fortran_order": False, "shape": shape})
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + body


def _npz(entries, compression=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, body in entries.items():
            archive.writestr(name, body)
    return file


def _overlapping():
    """Many entries that share the same bytes."""
    body = _npz({"a.npy": _npy((1 << 17,), body=bytes(1 << 20))}).getvalue()
    start, end = body.index(b"PK\x01\x02"), body.index(b"PK\x05\x06")
    entry, n = body[start:end], 5000
    tail = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, n, n, n * len(entry), start, 0)
    return io.BytesIO(body[:start] + entry * n + tail)


def _claiming(n_bytes):
    """An entry whose size in the directory is larger than the file."""
    body = bytearray(_npz({"a.npy": _npy((n_bytes // 8,), body=bytes(8))}).getvalue())
    place = body.index(b"PK\x01\x02") + 20
    body[place : place + 8] = struct.pack("<II", n_bytes, n_bytes)
    return io.BytesIO(body)


# Functions: each archive is made when its test runs.
HOSTILE = {
    "a header of 2**40 values": lambda: _npz({"a.npy": _npy((1 << 40,), body=bytes(80))}),
    "a shape whose product overflows": lambda: _npz(
        {"a.npy": _npy((1 << 62, 1 << 62), body=bytes(80))}
    ),
    "an empty array of 2**60 rows": lambda: _npz({"a.npy": _npy((1 << 60, 0))}),
    "2**40 values of no bytes": lambda: _npz({"a.npy": _npy((1 << 40,), descr="<U0")}),
    "a negative shape": lambda: _npz({"a.npy": _npy((-2, -5), body=bytes(80))}),
    "a bomb": lambda: _npz({"a.npy": _npy((1 << 25,), body=bytes(1 << 28))}, zipfile.ZIP_DEFLATED),
    "objects": lambda: _npz({"a.npy": _npy((1,), descr="|O", body=b"\x80\x04K\x01.")}),
    "records of objects": lambda: _npz({"a.npy": _npy((1,), descr=[("x", "|O")], body=bytes(8))}),
    "times": lambda: _npz({"a.npy": _npy((1,), descr="<M8[ns]", body=bytes(8))}),
    "deep parentheses": lambda: _npz({"a.npy": _npy((), text="(" * 9000)}),
    "a header of Python 2": lambda: _npz(
        {
            "a.npy": _npy(
                (),
                text="{'descr': '<f8', 'fortran_order': False, 'shape': (2L, 2L)}",
                body=bytes(32),
            )
        }
    ),
    "no header": lambda: _npz({"a.npy": b"hello"}),
    "a long header": lambda: _npz({"a.npy": _npy((), text=" " * 60_000)}),
    "entries that overlap": _overlapping,
    "an entry of 3 GB": lambda: _claiming(3 << 30),
    "no archive": lambda: io.BytesIO(b"PK"),
    "nothing": lambda: io.BytesIO(b""),
}


def test_what_was_written_is_read():
    file = io.BytesIO()
    write_arrays(file, ARRAYS)
    found = read_arrays(file)
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype and (found[name] == array).all()
        assert found[name].shape == array.shape
    assert read_arrays(file, ("d", "no")).keys() == {"d"}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_archive_is_refused_and_takes_no_memory(what):
    archive = HOSTILE[what]()
    tracemalloc.start()
    memory = PeakMemory()
    try:
        with pytest.raises(ArraysError, match=r"^[^\n]+$"):
            read_arrays(archive)
        assert tracemalloc.get_traced_memory()[1] < 50 << 20
    finally:
        tracemalloc.stop()
    assert memory.bytes() < 100e6
