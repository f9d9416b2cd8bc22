"""Pipes, JSON, exit codes and completion.

A user writes a script around vsp.
"""

import json
import os

from helpers.journey import User


def test_a_script_gets_plain_text_json_and_exit_codes(project):
    user = User(project)
    seen = user.types(
        146, "vsp report fake-demo | head -2", "the first lines, and no error of a closed pipe"
    )
    assert "Broken" not in seen.err and "\x1b" not in seen.out
    seen = user.types(147, "vsp report fake-demo --json", "JSON and nothing else")
    assert json.loads(seen.out)["chance"] > 0
    seen = user.types(148, "vsp status fake-demo --json", "JSON and nothing else")
    assert json.loads(seen.out)
    seen = user.types(
        149, "vsp compare fake-demo fake-demo-question --json", "JSON and nothing else"
    )
    assert len(json.loads(seen.out)) == 1
    seen = user.types(
        150, "vsp report fake-demo --csv - | cut -d, -f1-3", "a table for another program", "layer"
    )
    assert len(seen.out.splitlines()) >= 4
    user.types(
        151,
        "vsp report nothing; echo code $?",
        "exit code 1 for what is not there",
        "code 1",
        "nothing",
    )
    user.types(
        152, "vsp report --nothing; echo code $?", "exit code 2 for a wrong command line", "code 2"
    )
    seen = user.types(153, "vsp probe fake-demo --quiet --permutations 0 --controls 0 --no-curve --no-random --n-jobs 1", "only the result")  # fmt: skip
    assert "note: fits" not in seen.err and "jobs/s" not in seen.err
    seen = user.types(
        154,
        "vsp report fake-demo > page.txt && cat page.txt | wc -L",
        "plain lines of at most 80 characters",
    )
    assert int(seen.out) <= 80
    user.types(
        155, "vsp export fake-demo --to npz --out states.npz", "where the file is", "states.npz"
    )
    user.types(156, "vsp export fake-demo --to npz --out states.npz", "that the file is there already", "states.npz", code=1)  # fmt: skip
    user.types(157, "vsp report fake-demo --json --csv -", "that stdout takes one of both", code=1)


def test_the_tab_key_completes_commands_and_runs(project, monkeypatch):
    for line, wanted in (("vsp rep", "report"), ("vsp report fake-demo-", "fake-demo-question")):
        assert wanted in _completions(line, project)


def _completions(line, folder):
    import subprocess
    import sys

    environment = {
        **os.environ, "_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "COMP_LINE": line,
        "COMP_POINT": str(len(line)), "_ARGCOMPLETE_STDOUT_FILENAME": str(folder / "words"),
    }  # fmt: skip
    subprocess.run([sys.executable, "-m", "vsp"], cwd=folder, env=environment, check=False)
    return (folder / "words").read_text()
