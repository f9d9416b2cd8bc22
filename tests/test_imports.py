"""Modules import only from levels below their own, and the command line imports next to nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT

# From the bottom up. A family may also import from itself.
LEVELS = [
    {"__init__"},
    {"errors", "signals"},
    {"registry", "config", "files", "images", "progress", "prompts"},
    {"manifest", "store", "results", "journal", "splits", "estimates"},
    {"run", "parts", "evaluate"},
    {"datasets", "models", "probes", "schedulers"},
    {"prepare", "catalog", "jobs", "terminal", "programme", "funnel", "sifted"},
    {"plan"},
    {
        "generate",
        "importing",
        "vary",
        "extract",
        "fit",
        "submit",
        "status",
        "verify",
        "small_llava",
    },
    {"logs"},
    {"bench", "bench_probe", "compare", "sheet"},
    {"report", "show"},
    {"plots"},
    {"commands"},
    {"cli"},
    {"__main__"},
]
LEVEL = {module: level for level, modules in enumerate(LEVELS) for module in modules}


def _module(path: Path) -> str:
    return path.relative_to(ROOT / "vsp").parts[0].removesuffix(".py")


def _imported(path: Path) -> set[str]:
    """First parts below `vsp` of everything a file imports, wherever in it."""
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
            first, _, rest = name.partition(".")
            if first == "vsp":
                part = rest.partition(".")[0]
                found.add(part if part in LEVEL else "__init__")
    return found


def test_a_module_imports_only_from_levels_below_it():
    wrong = []
    for path in sorted((ROOT / "vsp").rglob("*.py")):
        module = _module(path)
        allowed = {m for m in LEVEL if LEVEL[m] < LEVEL[module]}
        if path.parent != ROOT / "vsp":
            allowed.add(module)
        wrong += [f"{path} imports {name}" for name in _imported(path) - allowed]
    assert not wrong


def test_help_loads_neither_torch_nor_numpy_nor_pydantic():
    code = (
        "import sys; from vsp.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'numpy', 'pydantic', 'rich', 'yaml') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.stdout.splitlines()[-1] == "[]", answer


def test_help_answers_in_a_third_of_a_second():
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "vsp", "--help"], capture_output=True, check=True)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.3


_OPENED = """
import sys
opened = []
def hook(event, args):
    if event == "open" and str(args[0]).endswith((".py", ".pyc", ".so")):
        opened.append(args[0])
sys.addaudithook(hook)
from vsp.cli import main
assert main(sys.argv[1:]) == 0
libraries = {name.partition(".")[0] for name in sys.modules}
print(len(opened), *sorted(libraries & {"torch", "transformers", "rich", "scipy", "sklearn",
                                        "simple_slurm", "joblib", "matplotlib"}))
"""


@pytest.mark.parametrize(
    ("command", "most", "libraries"),
    [
        # About 400 are numpy, pydantic, pillow and the standard library.
        (["extract", "--workers", "0"], 500, []),
        (["status"], 500, ["rich"]),
        (["resume", "--dry-run"], 500, ["simple_slurm"]),
    ],
)
def test_a_task_opens_few_files_before_its_model_does(plan_fake, work, command, most, libraries):
    """A thousand tasks start at once, from a shared file system; the fake model opens nothing."""
    run = plan_fake(n_shards=2)
    answer = subprocess.run(
        [sys.executable, "-c", _OPENED, *command, "--run", run.name],
        cwd=work, capture_output=True, text=True, check=True,
    )  # fmt: skip
    n_opened, *found = answer.stdout.splitlines()[-1].split()
    assert int(n_opened) < most and found == libraries
