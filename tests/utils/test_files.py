import errno
import json
import os
import resource
import stat
from pathlib import Path

import pytest
from helpers.disks import fill, free, read_only, small_disk

from vsp.errors import DiskError
from vsp.utils.files import (
    disk_errors,
    temporary_folder,
    write_aside,
    write_json,
    write_text,
    write_together,
)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), write_aside(path) as file:
        file.write(b"half of the n")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_files_get_the_mode_that_open_would_give(tmp_path):
    mask = os.umask(0o027)
    try:
        write_text(tmp_path / "plain", "")
        with write_aside(tmp_path / "script", executable=True):
            pass
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "plain").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "script").stat().st_mode) == 0o750


def test_json_keeps_every_letter(tmp_path):
    write_json(tmp_path / "a.json", {"é": "左"})
    assert json.loads((tmp_path / "a.json").read_bytes()) == {"é": "左"}


@pytest.mark.parametrize(
    ("number", "line"),
    [
        (errno.ENOSPC, "no space left on device; free space and run the same command again"),
        (errno.EDQUOT, "disk quota exceeded; free space and run the same command again"),
        (errno.EFBIG, "file too large; allow larger files (`ulimit -f`) and run the same command"),
        (errno.EROFS, "read-only file system; make it writable or use another folder, and run"),
        (errno.EACCES, "permission denied; make it writable or use another folder, and run"),
        (errno.EPERM, "operation not permitted; make it writable or use another folder, and run"),
    ],
)
def test_a_disk_that_cannot_be_written_to_is_a_line_with_path_reason_and_what_to_do(
    tmp_path, number, line
):
    path = tmp_path / "a"
    with pytest.raises(DiskError) as caught, disk_errors(path):
        raise OSError(number, "in another language")
    assert str(caught.value).startswith(f"{path}: {line}") and "\n" not in str(caught.value)


def test_what_lies_in_the_way_is_a_line_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(DiskError, match=r"^file: file exists; move it or use another path"):
        write_text(Path("file/a"), "text")
    with pytest.raises(DiskError, match=r"^folder: is a directory; move it or use another path"):
        write_text(Path("folder"), "text")
    assert {path.name for path in tmp_path.iterdir()} == {"file", "folder"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
def test_a_device_is_not_replaced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mknod("device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    with pytest.raises(DiskError, match=r"^device: file exists; move it or use another path"):
        write_text(Path("device"), "text")
    assert Path("device").is_char_device() and [*Path().iterdir()] == [Path("device")]


@pytest.mark.parametrize("error", [OSError(errno.EIO, "a"), FileNotFoundError(), OSError("b")])
def test_any_other_error_passes_as_it_is(tmp_path, error):
    with pytest.raises(OSError) as caught, disk_errors(tmp_path):
        raise error
    assert caught.value is error


def test_what_is_named_is_the_file_itself_unless_another_is_the_cause(tmp_path):
    path = tmp_path / "folder/a"
    for named, expected in (
        (None, path),
        (str(tmp_path / "folder/.a.x1"), path),
        ("/elsewhere/image.png", "/elsewhere/image.png"),
    ):
        with pytest.raises(DiskError) as caught, disk_errors(path):
            raise PermissionError(errno.EACCES, "no", named)
        assert str(caught.value).startswith(f"{expected}: permission denied")


@pytest.mark.parametrize("free_pages", [0, 1, 3])
def test_a_full_disk_keeps_the_old_file_and_the_same_write_passes_once_there_is_space(
    tmp_path, free_pages
):
    with small_disk(tmp_path / "disk", "64k") as disk:
        path = disk / "a"
        path.write_bytes(b"old")
        fill(disk, free_pages)
        with pytest.raises(DiskError, match=f"^{path}: no space left on device; free space"):
            write_text(path, "n" * 4 * 4096)
        assert path.read_bytes() == b"old" and {p.name for p in disk.iterdir()} == {"a", "filler"}
        free(disk)
        write_text(path, "n" * 4 * 4096)
        assert path.stat().st_size == 4 * 4096


def test_a_full_disk_that_shows_only_at_the_last_flush_is_a_line_too(tmp_path):
    with small_disk(tmp_path / "disk", "64k") as disk:
        fill(disk)
        with pytest.raises(DiskError), write_aside(disk / "a") as file:
            file.write(b"few")  # stays in the buffer


def test_a_read_only_disk_is_a_line(tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        read_only(disk)
        for path in (disk / "a", disk / "new/folder/a"):
            with pytest.raises(DiskError, match="read-only file system; make it writable"):
                write_text(path, "")


def test_a_limit_on_the_size_of_files_is_a_line(tmp_path):
    _, hard = limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(DiskError, match="file too large; allow larger files"):
            write_text(tmp_path / "a", "a" * 4097)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


def test_of_files_written_together_none_is_renamed_before_all_are_on_the_disk(tmp_path):
    with small_disk(tmp_path / "disk", "64k") as disk:
        paths = [disk / name for name in "abc"]
        for path in paths:
            path.write_bytes(b"old")
        fill(disk, free_pages=2)
        with pytest.raises(DiskError, match=f"^{disk}: no space"), write_together(paths) as files:
            for file in files:
                file.write(b"new")  # all stay in buffers; the third page is not there
        assert [path.read_bytes() for path in paths] == [b"old"] * 3
        assert {path.name for path in disk.iterdir()} == {"a", "b", "c", "filler"}
        free(disk)
        with write_together(paths) as files:
            for file in files:
                file.write(b"new")
                assert [path.read_bytes() for path in paths] == [b"old"] * 3
        assert [path.read_bytes() for path in paths] == [b"new"] * 3


def test_of_files_written_together_none_is_replaced_when_the_block_fails(tmp_path):
    paths = [tmp_path / name for name in "ab"]
    with pytest.raises(RuntimeError), write_together(paths) as (first, _):
        first.write(b"whole")
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_the_new_name_is_flushed_too_after_the_file_is(tmp_path, monkeypatch):
    """Otherwise a power loss may leave the old file."""
    calls = []
    fsync, replace = os.fsync, Path.replace

    def flushed(handle):
        calls.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    def renamed(path, target):
        calls.append("rename")
        return replace(path, target)

    monkeypatch.setattr("os.fsync", flushed)
    monkeypatch.setattr(Path, "replace", renamed)
    write_text(tmp_path / "a", "text")
    assert calls == ["file", "rename", "folder"]


def test_a_signal_while_a_temporary_folder_is_made_leaves_none(tmp_path, monkeypatch):
    make = os.mkdir

    def make_and_interrupt(path, *mode, **place):
        make(path, *mode, **place)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "mkdir", make_and_interrupt)
    with pytest.raises(KeyboardInterrupt), temporary_folder(tmp_path, ".own."):
        pass
    assert list(tmp_path.iterdir()) == []
