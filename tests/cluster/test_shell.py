"""Hostile text changes no command of a batch script; bash checks and runs the scripts."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.fuzzing import few
from hypothesis import example, given
from hypothesis import strategies as st

from vsp.cluster import SCHEDULERS
from vsp.cluster.contract import After, Job
from vsp.cluster.shell import write_script
from vsp.config import Profile, parse
from vsp.errors import ConfigError, SchedulerError

PIECES = st.sampled_from(
    ["'", '"', "\\", "\n", "\r", "\t", " ", "$", "`", "$(touch hit)", "`touch hit`", "; touch hit;",
     "\n#SBATCH --wrap=x\n", "#", "&", "|", "<", ">", "*", "~", "!", "{", "}", "{command}", "-", "--",
     "%", "%j", "=", ":", "/", "é", "\u2028", "\x1b", "x", "touch", "hit", "{}", "\x7f"]
)  # fmt: skip
HOSTILE = st.lists(PIECES, max_size=8).map("".join)
NAMES = st.lists(st.sampled_from("AbZ_09ccccdd =;$(\n-'"), min_size=1, max_size=4).map("".join)
SHOW = "import json, os, sys; print(json.dumps([sys.argv[1:], dict(os.environ)]))"
OWN = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "SLURM_ARRAY_TASK_ID": "1"}


def _allowed(name):
    """Whether a profile accepts a variable of this name; asserts that a refusal has one line."""
    try:
        parse(Profile, {"environment": {name: "x"}}, "p.yaml")
    except ConfigError as error:
        assert "\n" not in str(error)
        return False
    return True


def _ran(script, folder):
    """Run a script; return the arguments and the environment of its command."""
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    path = folder / "script.sh"
    path.write_bytes(os.fsencode(script))
    done = subprocess.run(
        ["/bin/bash", str(path), "1"], cwd=folder, env=OWN, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "" and {p.name for p in folder.iterdir()} == {"script.sh"}
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", SCHEDULERS.own_names())
@few
@given(
    words=st.lists(HOSTILE, max_size=3),
    values=st.dictionaries(NAMES, HOSTILE, max_size=3),
    number=st.sampled_from(["{}", "{}/2"]),
    n_tasks=st.sampled_from([None, 3]),
)
@example(["-x\n'"], {"_A": "$(touch hit)"}, "{}", 3)
def test_a_task_gets_exactly_its_arguments_and_its_variables(
    name, tmp_path_factory, words, values, number, n_tasks
):
    # A profile takes printable values only; a script keeps any.
    environment = {key: value for key, value in values.items() if _allowed(key)}
    command = (sys.executable, "-P", "-c", SHOW, *words)
    job = Job("extract", "n", "i", command, Path("/l"), n_tasks=n_tasks, number=number,
              environment=environment)  # fmt: skip
    script = SCHEDULERS.load(name)().script(job)
    argv, found = _ran(script, tmp_path_factory.mktemp("script"))
    # The local script takes the numbers of its tasks as arguments, the other one the first number.
    task = {"local": "1", "slurm": "2"}[name]
    assert argv == words + ([] if n_tasks is None else [number.format(task)])
    by_bash = {"PWD", "SHLVL", "_", "OLDPWD"}
    expected = {**OWN, **environment}
    assert {k: v for k, v in found.items() if k not in by_bash} == expected


@few
@given(
    texts=st.dictionaries(
        st.sampled_from(["partition", "account", "qos", "constraint", "time", "gres", "mem",
                         "exclude", "reservation", "mail_user", "input", "licenses", "export"]),
        HOSTILE, max_size=4,
    ),
    logs=HOSTILE,
    modules=st.lists(HOSTILE, max_size=2),
)  # fmt: skip
def test_a_profile_adds_no_line_to_a_script_and_no_option_that_it_does_not_name(
    texts, logs, modules
):
    try:
        profile = parse(Profile, {**texts, "logs": logs, "modules": modules}, "p.yaml")
        slurm = SCHEDULERS.load("slurm")()
        folder = Path("/l") / (profile.logs or "")
        job = Job(
            "extract", "n", "i", ("true",), folder, resources=profile, modules=profile.modules
        )
        script = slurm.script(job)
    except (ConfigError, SchedulerError) as error:
        assert "\n" not in str(error)
        return
    assert "\n".join(script.splitlines()) + "\n" == script
    # simple-slurm fills lines with spaces up to the length of the longest option.
    plain, lines = (
        [line.rstrip() for line in text.splitlines()]
        for text in (slurm.script(Job("extract", "n", "i", ("true",), Path("/l"))), script)
    )
    own = [f"#SBATCH --{key.replace('_', '-')}=" for key in texts]
    added = [line for line in lines if line not in plain and "--output=" not in line]
    loads = [f"module load {shlex.quote(module)} || exit 1" for module in modules]
    assert all(line.startswith(tuple(own)) or line in loads for line in added)
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


@few
@given(name=HOSTILE)
@example("$(touch${IFS}hit)")
@example("x';touch\thit;'")
@example("~/m/x")
def test_module_load_gets_exactly_the_name_of_the_module(tmp_path_factory, name):
    try:
        profile = parse(Profile, {"modules": [name]}, "p.yaml")
    except ConfigError as error:
        assert "\n" not in str(error)
        return
    job = Job("verify", "n", "i", ("true",), Path("/l"), modules=profile.modules)
    folder = tmp_path_factory.mktemp("module")
    script = "module() { printf '%s\\0' \"$@\"; }\n" + SCHEDULERS.load("slurm")().script(job)
    done = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, check=True)
    assert done.stdout.decode().split("\0") == ["load", name, ""]
    assert not list(folder.iterdir())


@pytest.mark.parametrize("name", SCHEDULERS.own_names())
@pytest.mark.parametrize("inherited", [{}, {"PYTHONPATH": "/b::."}])
@pytest.mark.parametrize("given", [{}, {"PYTHONPATH": "/c"}])
def test_the_folder_to_import_from_comes_first_in_pythonpath(name, inherited, given, tmp_path):
    job = Job("verify", "n", "i", (sys.executable, "-P", "-c", SHOW), Path("/l"),
              environment=given, import_from="/a 'b'")  # fmt: skip
    script = SCHEDULERS.load(name)().script(job)
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env={**OWN, **inherited}, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    others = {**inherited, **given}.get("PYTHONPATH", "").partition("::")[0]
    found = json.loads(done.stdout)[1]["PYTHONPATH"]
    assert found == "/a 'b'" + (f":{others}" if others else "")


@pytest.mark.parametrize("name", SCHEDULERS.own_names())
def test_a_script_whose_path_begins_with_a_dash_is_no_option(name):
    scheduler = SCHEDULERS.load(name)()
    job = Job("verify", "n", "i", ("true",), Path("/l"))
    for call in scheduler.calls(job, Path("-x/jobs/verify.sh")):
        assert call.command[-1] == "./-x/jobs/verify.sh"
        assert shlex.split(scheduler.line(call, After()))[-1] == "./-x/jobs/verify.sh"


def test_an_empty_or_relative_folder_of_a_search_path_reaches_no_task(tmp_path):
    command = (sys.executable, "-P", "-c", SHOW)
    paths = {
        "PATH": ":/usr/bin:.:/bin", "LD_LIBRARY_PATH": ":a b:/x y:", "PYTHONPATH": ".:../z:",
    }  # fmt: skip
    for name in SCHEDULERS.own_names():
        job = Job("verify", "n", "i", command, Path("/l"), environment=paths)
        _, found = _ran(SCHEDULERS.load(name)().script(job), tmp_path)
        assert (found["PATH"], found["LD_LIBRARY_PATH"]) == ("/usr/bin:/bin", "/x y")
        assert "PYTHONPATH" not in found


def test_a_script_keeps_the_bytes_of_a_folder_that_is_not_utf8(tmp_path):
    folder = os.fsdecode(b"b\xff\nd")
    command = (
        sys.executable,
        "-P",
        "-c",
        "import os, sys; print(os.fsencode(sys.argv[1]))",
        folder,
    )
    script = SCHEDULERS.load("local")().script(Job("verify", "n", "i", command, Path(folder)))
    write_script(tmp_path / folder / "s.sh", script)
    done = subprocess.run(["bash", tmp_path / folder / "s.sh"], capture_output=True, text=True)
    assert done.stdout == f"{os.fsencode(folder)!r}\n", done.stderr


def test_a_run_id_of_a_stranger_adds_no_option_to_a_script():
    job = Job("extract", "n", "a --wrap=x", ("true",), Path("/l"))
    with pytest.raises(SchedulerError, match="run id 'a --wrap=x'"):
        SCHEDULERS.load("slurm")().script(job)
