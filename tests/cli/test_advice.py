"""Advice in messages names only options that there are: of the command that prints it, or of one it names.

Which commands reach a file is written down here, for the longest beginning of its path.
"""

import ast
import re

import pytest
from helpers.paths import ROOT

from vsp.cli.main import make_parser

COMMANDS = {name: parser.options() for name, parser in make_parser().all_commands().items()}
# A file that is not listed may name options of a command only together with the command.
REACHED_BY = {
    "cli/asked_study": "study",
    "cli/axes": "axes",
    "cli/bench": "bench",
    "cli/data": "generate",
    "cli/effect_options": "steer patch",
    "cli/effects": "effects",
    "cli/evaluating": "evaluate",
    "cli/exporting": "export",
    "cli/importing": "import",
    "cli/chosen_run": "status report probe",
    "cli/compared_runs": "compare",
    "cli/html_page": "report",
    "cli/paper_options": "report",
    "cli/patching": "patch",
    "cli/planning": "plan",
    "cli/probing": "probe",
    "cli/profile_choice": "status submit resume",
    "cli/results": "report",
    "cli/run_list": "runs",
    "cli/state_files": "import",
    "cli/status": "status",
    "cli/steering": "steer",
    "cli/studying": "study",
    "cli/submitted_probe": "submit",
    "cli/sweeping": "sweep",
    "cli/viewing": "view",
    "cluster/needed_stages": "submit resume",
    "cluster/next_commands": "submit resume",
    "cluster/probe_choice": "probe",
    "cluster/submit": "submit resume",
    "datasets/apply_variant": "generate",
    "datasets/importers/": "import",
    "datasets/metadata": "plan bench",
    "datasets/scarce_labels": "import probe",
    "datasets/synthetic/": "generate",
    "evaluation/": "probe",
    "evaluation/compare": "compare",
    "evaluation/direction_file": "steer",
    "evaluation/directions": "steer",
    "evaluation/judged_rows": "evaluate",
    "evaluation/matched_runs": "compare",
    "evaluation/record_fields": "report",
    "evaluation/target_states": "evaluate",
    "evaluation/trained_probes": "evaluate",
    "evaluation/transfer": "evaluate",
    "extraction/": "plan",
    "extraction/answer_options": "plan bench",
    "extraction/patch_places": "patch",
    "models/": "plan bench",
    "models/contract": "plan",
    "models/placement": "plan",
    "models/vision_tower": "plan",
    "probes/erasure": "probe",
    "probes/own_code": "probe",
    "probes/own_estimator": "probe",
    "reporting/answer_rows": "report",
    "reporting/axes_plot": "axes",
    "reporting/effects_page": "effects",
    "reporting/effects_plot": "effects",
    "reporting/class_plots": "report",
    "reporting/page/gallery_section": "report",
    "reporting/probe_report": "report",
    "reporting/comparison": "compare",
    "reporting/free_answers_page": "answer",
    "reporting/model_list": "plan",
    "reporting/says_facts": "probe",  # the setting of the results
    "reporting/status_page": "status",
    "reporting/study_strata": "report",
    "reporting/transfer_page": "evaluate",
    "storage/array": "plan",
    "storage/convention": "import",
    "storage/export": "export",
    "storage/find_results": "report",
    "storage/imported_run": "import",
    "storage/layout": "plan",
    "storage/results": "probe",
    "storage/state_files": "import",
    "storage/study": "study",
    "storage/stored_settings": "report",
    "storage/state_splits": "import",
}
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*[a-z]")
_COMMAND = re.compile(r"\bvsp ((?:dataset )?[a-z]+)([^`;\n]*)")
# Options of another program, or of a command that is a value: "{} --retry-failed".
_OF_OTHERS = re.compile(r"`?(hf|pip) [^`;]*|--local-dir|--[a-z-]+ after --|^\{\} --[a-z-]+")


def _texts(path):
    """Every message of a file, with {} for its values; without docstrings, help texts and examples."""
    tree = ast.parse(path.read_text())
    left_out = {
        id(part)
        for node in ast.walk(tree) if isinstance(node, ast.Call)
        for keyword in node.keywords if keyword.arg in ("help", "example", "summary")
        for part in ast.walk(keyword.value)
    }  # fmt: skip
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            left_out |= {id(part) for part in node.values}
        if isinstance(node, ast.Expr):  # a docstring
            left_out.add(id(node.value))
    for node in ast.walk(tree):
        if id(node) in left_out:
            continue
        if isinstance(node, ast.JoinedStr):
            parts = [one.value if isinstance(one, ast.Constant) else "{}" for one in node.values]
            yield "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def _reached_by(name):
    beginnings = [one for one in REACHED_BY if name.startswith(one)]
    return REACHED_BY[max(beginnings, key=len)].split() if beginnings else []


def wrong_advice(text, commands):
    """The options in a message that neither its command nor a command that it names has."""
    text = _OF_OTHERS.sub("", text)
    named = [(name, rest) for name, rest in _COMMAND.findall(text) if name in COMMANDS]
    wrong = [
        f"vsp {name} {option}"
        for name, rest in named
        for option in _OPTION.findall(rest.partition("`")[0])
        if option not in COMMANDS[name]
    ]
    bare = _OPTION.findall(_COMMAND.sub("", text))
    return wrong + [
        option
        for option in bare
        if not (commands and all(option in COMMANDS[one] for one in commands))
        and not any(option in COMMANDS[name] for name, _ in named)
    ]


FILES = [
    path for path in sorted((ROOT / "vsp").rglob("*.py"))
    if "demo_" not in str(path) and path.name not in ("arguments.py", "probe_options.py", "parser.py", "main.py")
]  # fmt: skip


def test_every_option_in_a_message_is_one_of_its_command_or_of_a_command_that_it_names():
    wrong = [
        f"{name}: {text!r}: {found}"
        for path in FILES
        for name in [str(path.relative_to(ROOT / "vsp"))]
        for text in _texts(path)
        if _OPTION.search(text) and " " in text.strip()
        for found in [wrong_advice(text, _reached_by(name))]
        if found
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("use another --metric", ["--metric"]),
        ("`vsp probe --metric` chooses another score", []),
        ("`vsp report --metric` chooses another score", ["vsp report --metric"]),
        ("use `vsp import --check --resplit`, or --json", []),
        ("hf download X --local-dir DIR", []),
    ],
)
def test_wrong_advice_is_found(text, wrong):
    assert wrong_advice(text, ["report"]) == wrong
