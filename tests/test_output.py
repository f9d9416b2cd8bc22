"""Everything that vsp prints is escaped: only the modules that escape text write to the streams."""

import ast
import re

import pytest
from helpers.paths import ROOT

FILES = sorted((ROOT / "vsp").rglob("*.py"))
PAGES, STREAMS = "vsp/utils/terminal.py", "vsp/utils/streams.py"
FLUSHING = {"vsp/cli/main.py", "vsp/models/library_errors.py", "vsp/utils/limits.py"}
PRINTERS = {PAGES, "vsp/utils/progress.py", "vsp/cli/output.py"}
# Pattern of a called or read name → the files that may use it.
ALLOWED = {
    r"(rich\.)?(console\.)?Console": {PAGES},
    r"(rich\.)?(text\.)?Text(\..*)?": {PAGES},
    r"(rich\.\w+\.)?(Live|FileProxy)": {PAGES},
    r"(rich\.\w+\.)?Progress": {"vsp/utils/progress.py"},
    r"print": PRINTERS,
    r"rich\.(print|inspect|get_console|print_json)": set(),
    r"(joblib\.)?Parallel": {"vsp/utils/workers.py"},
    # main.py and library_errors.py flush, and main.py closes a broken pipe. limits.py prints nothing.
    r"sys\.(stdout|stderr)(\.(?!flush|isatty|fileno).*)?": {*PRINTERS, STREAMS, *FLUSHING},
    r"sys\.(stdout|stderr)\.(buffer.*|write|writelines)": {STREAMS},
    r"sys\.__(stdout|stderr)__(\..*)?": {STREAMS},
    r".*\.write_raw": {PAGES},
    r".*\.from_(markup|ansi)": set(),
}


def _name(node):
    if isinstance(node, ast.Attribute):
        return f"{_name(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "…"


def _used(tree):
    calls = {_name(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    return calls | {_name(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


@pytest.fixture(scope="module")
def used():
    return {str(path.relative_to(ROOT)): _used(ast.parse(path.read_text())) for path in FILES}


@pytest.mark.parametrize("pattern", ALLOWED)
def test_only_the_modules_that_escape_print(used, pattern):
    found = {file for file, names in used.items() if any(re.fullmatch(pattern, n) for n in names)}
    assert found <= ALLOWED[pattern]


def test_nobody_writes_to_the_numbers_of_the_streams():
    """os.write serves for files of the run only; 1 and 2 are stdout and stderr."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and _name(node.func) in ("os.write", "os.fdopen", "open"):
                where = ast.unparse(node.args[0])
                assert not re.search(r"^[12]$|std(out|err)|/dev/(tty|std|fd)", where), path


def test_pages_ask_rich_for_no_markup_and_no_links():
    for path in FILES:
        assert not re.search(r"(markup|emoji)=True|link=|link ", _styles(path)), path


def _styles(path):
    """The keywords of all calls, with their values."""
    calls = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
    given = (
        one
        for call in calls
        for one in call.keywords
        if one.arg in ("markup", "emoji", "link", "style")
    )
    return " ".join(ast.unparse(one) for one in given)
