"""Files of strangers: named pipes, devices and huge files are refused at once, as OSErrors."""

from __future__ import annotations

import errno
import os
import socket
import time

import pytest

from vsp.utils.reading import open_regular, read_bounded, read_json, unreadable


def test_a_regular_file_is_read_through_links(tmp_path):
    (tmp_path / "a").write_bytes(b"[1]")
    (tmp_path / "link").symlink_to("a")
    assert read_bounded(tmp_path / "link", 3) == b"[1]"
    assert read_json(tmp_path / "a") == [1]
    with open_regular(tmp_path / "link") as file:
        assert file.read() == b"[1]"
        assert os.get_blocking(file.fileno())


@pytest.mark.parametrize("what", ["pipe", "link to a pipe", "zero", "random", "socket", "folder"])
def test_what_is_not_a_regular_file_is_refused_at_once(tmp_path, what):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link to a pipe").symlink_to("pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "random").symlink_to("/dev/urandom")
    (tmp_path / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "socket"))
        started = time.process_time()
        with pytest.raises(OSError) as caught:
            read_bounded(tmp_path / what, 1000)
    assert time.process_time() - started < 1
    kinds = {"pipe": "a named pipe", "link to a pipe": "a named pipe", "socket": "a socket"}
    said = f"is {kinds.get(what, 'a device')}, not a regular file"
    assert caught.value.strerror == ("Is a directory" if what == "folder" else said)


def test_a_file_over_the_limit_takes_no_memory(tmp_path):
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(200 * 10**9)
    with pytest.raises(OSError, match="holds 200 GB, at most 1 kB are read") as caught:
        read_bounded(tmp_path / "sparse", 1000)
    assert caught.value.errno == errno.EFBIG
    (tmp_path / "limit").write_bytes(bytes(1000))
    assert len(read_bounded(tmp_path / "limit", 1000)) == 1000
    with pytest.raises(OSError, match="holds 1 kB, at most 999 bytes"):
        read_bounded(tmp_path / "limit", 999)


def test_a_file_that_says_it_is_empty_is_read_to_its_end():
    assert b"MemTotal" in read_bounded("/proc/meminfo", 1 << 16)
    with pytest.raises(OSError, match="at most 10 bytes are read"):
        read_bounded("/proc/meminfo", 10)


def test_the_reason_is_said_without_the_path(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        open_regular(tmp_path / "none")
    assert unreadable(caught.value) == "cannot be read (no such file or directory)"
