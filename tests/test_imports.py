"""Modules import only from lower levels, and light commands import few modules."""

from __future__ import annotations

import ast
import resource
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from helpers import made
from helpers.paths import ROOT

# From the lowest level up. Folders of one level do not import each other.
LEVELS = [
    {"escaping"},
    {"__init__", "errors", "choices"},
    {"utils"},
    {"config"},
    {"storage", "models"},
    {"datasets", "cluster", "probes"},
    {"extraction", "evaluation"},
    {"reporting"},
    {"serving"},
    {"cli", "api"},
    {"__main__", "demo_checkpoint"},
    {"demo_training"},
]
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
FILES = sorted((ROOT / "vsp").rglob("*.py"))


def _room(path: Path) -> str:
    return path.relative_to(ROOT / "vsp").parts[0].removesuffix(".py")


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


MODULES = {_module(path): path for path in FILES}


def _imported(path: Path) -> set[str]:
    """The modules of vsp that a file imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            module = name if name in MODULES else name.rpartition(".")[0]
            if module in MODULES:
                found.add(module)
    return found


@pytest.fixture(scope="module")
def imports():
    found = {module: _imported(path) for module, path in MODULES.items()}
    found["vsp"] -= {"vsp.api"}  # imported when one of its functions is used, see test_api.py
    return found


def test_a_room_imports_only_from_levels_below_it(imports):
    wrong = [
        f"{module} imports {other}"
        for module, imported in imports.items()
        for other in imported
        for room, below in [(_room(MODULES[module]), _room(MODULES[other]))]
        if room != below and LEVEL[below] >= LEVEL[room]
    ]
    assert not wrong


def test_no_module_imports_itself_by_a_detour(imports):
    TopologicalSorter(imports).prepare()  # raises CycleError with the names of the circle


def test_a_private_name_is_not_imported_from_another_file():
    wrong = []
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vsp"):
                wrong += [f"{path}: {a.name}" for a in node.names if a.name.startswith("_")]
    assert [one for one in wrong if not one.endswith("__version__")] == []


def test_help_loads_neither_torch_nor_numpy_nor_pydantic():
    code = (
        "import sys; from vsp.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'numpy', 'pydantic', 'rich', 'yaml') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.stdout.splitlines()[-1] == "[]", answer


def test_help_answers_in_a_third_of_a_second():
    """CPU time of the process, which other processes on the machine lengthen little."""
    seconds = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "vsp", "--help"], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(seconds) < 0.3


_OPENED = """
import sys
opened = set()
def hook(event, args):
    if event == "open" and str(args[0]).endswith((".py", ".pyc", ".so")):
        folder, _, name = str(args[0]).replace("/__pycache__", "").rpartition("/")
        opened.add((folder, name.partition(".")[0]))  # once, whether or not it is compiled already
sys.addaudithook(hook)
from vsp.cli.main import main
assert main(sys.argv[1:]) == 0
libraries = {name.partition(".")[0] for name in sys.modules}
print()
print(len(opened), *sorted(libraries & {"torch", "transformers", "rich", "scipy", "sklearn",
                                        "simple_slurm", "joblib", "matplotlib", "PIL"}))
"""


def _opened(folder: Path, *command: object) -> tuple[int, list[str]]:
    """How many files of code a command opens, and which of the large libraries it loads."""
    answer = subprocess.run(
        [sys.executable, "-c", _OPENED, *map(str, command)],
        cwd=folder, capture_output=True, text=True, check=True,
    )  # fmt: skip
    n_opened, *libraries = answer.stdout.splitlines()[-1].split()
    return int(n_opened), libraries


# About 250 of these files belong to numpy, pydantic and the standard library. The bounds are 10 %
# above the measured counts.


@pytest.mark.parametrize(
    ("command", "most", "libraries"),
    [
        (["extract", "--workers", "0"], 395, ["PIL"]),
        (["status"], 400, ["rich"]),
        (["resume", "--dry-run"], 350, ["simple_slurm"]),
    ],
)
def test_a_task_opens_few_files_before_its_model_does(plan_fake, work, command, most, libraries):
    """A thousand tasks start at once from a shared file system, so each must open few files.

    The fake model itself opens no file."""
    run = plan_fake(n_shards=2)
    n_opened, found = _opened(work, *command, "--run", run.name)
    assert n_opened < most and found == libraries


@pytest.mark.parametrize(
    ("command", "most", "libraries"),
    [
        (["report"], 400, ["rich"]),
        (["report", "--json"], 400, ["rich"]),
        (["compare", "first", "second"], 895, ["rich", "scipy"]),
        (["models"], 540, ["PIL", "rich"]),
        (["plan", "--model", "fake", "--dataset", "SPATIAL"], 440, ["PIL", "simple_slurm"]),
    ],
)
def test_a_page_opens_few_files(spatial, work, command, most, libraries):
    """Commands that show what is on disk load no library that computes."""
    for name in ("first", "second"):
        made.made(work / "results" / name)
    n_opened, found = _opened(work, *(spatial if a == "SPATIAL" else a for a in command))
    assert n_opened < most and found == libraries
