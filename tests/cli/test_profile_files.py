"""A scheduler profile that cannot be read is one line, at once; no other file takes its place."""

import os
import time

import pytest

from vsp.cli.arguments import PROFILE, read_profile
from vsp.cli.main import main
from vsp.errors import ConfigError


def _pipe(path):
    os.mkfifo(path)


def _loop(path):
    path.symlink_to(path)


MADE = {
    "a folder": (lambda path: path.mkdir(), "cannot be read (is a directory)"),
    "a pipe": (_pipe, "cannot be read (is a named pipe, not a regular file)"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "cannot be read (is a device, not a"),
    "a link to itself": (_loop, "cannot be read (too many levels of symbolic links)"),
    "a link to nothing": (lambda path: path.symlink_to("gone"), "no such file; name an existing"),
    "other bytes": (lambda path: path.write_bytes(b"a: \xff\n"), "cannot be read as YAML: "),
    "a list": (lambda path: path.write_text("- a\n"), "holds a list; write `key: value` lines"),
    "nothing": (lambda path: path.write_text(""), "holds a NoneType; write `key: value` lines"),
    "a number as a key": (lambda path: path.write_text("1: 2\n"), "1 1: keys should be strings"),
    "an unknown scheduler": (lambda path: path.write_text('scheduler: "a\\nb"\n'), ""),
    "a sparse file": (
        lambda path: (path.touch(), os.truncate(path, 200 << 30)),
        "cannot be read (holds 215 GB, at most",
    ),
}


@pytest.mark.parametrize("kind", MADE)
def test_a_profile_that_cannot_be_read_is_one_line_at_once(kind, plan_fake, work, capsys):
    make, message = MADE[kind]
    run = plan_fake(limit=8)
    (work / "jobs").mkdir(exist_ok=True)
    make(work / PROFILE)
    for command in (["submit", "--dry-run"], ["resume"], ["status"], ["logs"]):
        capsys.readouterr()
        start = time.process_time()
        assert main([*command, "--run", run.name]) == 1
        assert time.process_time() - start < 1
        *notes, line = capsys.readouterr().err.splitlines()
        assert notes in ([], ["note: using jobs/slurm.yaml"])
        assert line.startswith(f"vsp: {PROFILE}: {message}" if message else "vsp: "), line


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("closed", ["the folder", "the file"])
def test_a_profile_that_one_may_not_read_is_refused_and_the_shipped_one_is_not_used(work, closed):
    (work / "jobs").mkdir()
    (work / PROFILE).write_text("partition: gpu\n")
    assert read_profile(None).partition == "gpu"  # imports what it needs
    work.chmod(0o700 if closed == "the folder" else 0o755)
    (work / PROFILE).chmod(0o600)
    os.seteuid(65534)
    try:
        with pytest.raises(ConfigError, match=r"^jobs/slurm.yaml: cannot be read \(permission den"):
            read_profile(None)
    finally:
        os.seteuid(0)
