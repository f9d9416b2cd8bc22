"""Tables for papers: LaTeX that compiles, Markdown and CSV, with text from data as text."""

import csv
import io
import re
import string

import pytest
from helpers import hostile, made
from helpers.latex import compile_tables

from vsp.cli.main import main
from vsp.reporting.escaping import csv_text_line, latex_text, markdown_text, needs_unicode_latex
from vsp.reporting.layer_paper_table import layer_csv, layer_paper_table
from vsp.reporting.table_files import (
    Column,
    Estimate,
    PaperTable,
    Row,
    latex_table,
    markdown_table,
)

NASTY = r"50% & x_{1}^2 #3 $y$ ~z \input{secret} <a> |b| `c` [d] *e* _f_ -- '' \\ "
LABELS = [NASTY, "=1+1", "-2.5", hostile.LABELS[0]]


def _table(*rows, caption=NASTY, columns=None):
    columns = columns or (Column("label"), Column("score", 3), Column("diff", 2, signed=True))
    return PaperTable(caption, NASTY, columns, (tuple(rows),))


@pytest.fixture
def results(tmp_path):
    return made.made(tmp_path / "results/my_run")


@pytest.fixture
def hostile_results(tmp_path):
    """Results whose classes, dataset, model and prompt are hostile text."""
    plan = made.plan(
        "h",
        dataset=f"/data/{hostile.NAME}",
        labels=tuple(LABELS),
        prompt=NASTY,
        model={"family": "llava15", "checkpoint": f"/models/{NASTY.replace('/', '')}"},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(made, "NAMES", LABELS)
        return made.made(tmp_path / "results/h", plan=plan.model_dump(mode="json"))


def test_every_sign_of_a_keyboard_is_printed_by_latex_as_itself(tmp_path):
    texts = [string.punctuation, NASTY, hostile.NAME, "R² · – − × ≥ ≤ → ← … Tür naïve Å"]
    rows = [Row((text, Estimate(0.5, 0.4, 0.6), Estimate(-0.25))) for text in texts]
    assert not any(map(needs_unicode_latex, [latex_text(text) for text in texts]))
    compile_tables(tmp_path / "tex", latex_table(_table(*rows, caption=hostile.NAME)))


@pytest.mark.parametrize("sign", "\\{}$&%#_~^")
def test_no_special_sign_reaches_latex(sign):
    written = latex_text(f"a{sign}b")
    known = r"\\(textbackslash|textasciitilde|textasciicircum)\{\}|\\[{}$&%#_]"
    assert re.sub(known, "", written) == "ab"


def test_latex_joins_no_signs_of_a_name():
    assert latex_text("a--b''c") == "a-{}-b'{}'c"


def test_characters_that_pdflatex_does_not_know_are_said_in_the_file():
    table = latex_table(_table(Row(("左", Estimate(0.5)))))
    assert "use LuaLaTeX or XeLaTeX" in table.splitlines()[1]
    assert "LuaLaTeX" not in latex_table(_table(Row(("links", Estimate(0.5)))))


def test_the_tables_of_all_commands_compile(tmp_path, work, results, hostile_results, capsys):
    for seed, name in enumerate(("other", "third"), start=1):
        made.made(work / f"results/{name}", made.predictions(made.accuracies(25), seed=seed))
    commands = (
        ("report", "--run", "my_run"),
        ("report", "--run", "h"),
        ("compare", "my_run", "other"),
        ("compare", "my_run", "other", "third", "--title", NASTY),
    )
    tables = []
    for command in commands:
        assert main([*command, "--latex", "-"]) == 0
        tables.append(capsys.readouterr().out)
    log = compile_tables(tmp_path / "tex", *tables)
    assert "undefined" not in log.lower()


def test_the_layer_table_has_chance_as_a_row_intervals_below_and_the_selected_layer_bold(results):
    summary, scores = results.read()
    best = next(score for score in scores if score.layer == summary["best_layer"])
    lines = latex_table(layer_paper_table(results)).splitlines()
    cells = f"{best.score:.3f} & $_{{[{best.low:.3f},\\,{best.high:.3f}]}}$"
    (bold,) = [line for line in lines if "bfseries" in line]
    assert bold.strip().startswith(rf"\textbf{{{best.layer}}} & \bfseries {cells}")
    assert r"    chance & 0.250 \\" in lines
    assert sum(r"S[table-format=" in line for line in lines) == 3
    peak = summary["peak"]
    assert any(line.startswith(f"    selected layer & {peak['estimate']:.3f}") for line in lines)
    assert r"  \label{tab:my-run}" in lines and lines[-1] == r"\end{table}"
    assert all(rule in "".join(lines) for rule in (r"\toprule", r"\midrule", r"\bottomrule"))


def test_the_caption_names_model_and_dataset_without_their_paths(tmp_path):
    plan = made.plan(
        "a",
        dataset="/home/someone/data/spatial",
        model={
            "family": "llava15",
            "checkpoint": "/scratch/someone/llava-7b",
            "adapter": "/scratch/someone/tuned",
            "quantization": "4bit",
        },
    ).model_dump(mode="json")
    table = latex_table(layer_paper_table(made.made(tmp_path / "a", plan=plan)))
    assert "llava-7b, adapter tuned, 4bit on spatial, prompt instruction" in table
    assert "someone" not in table and "/" not in table


def test_a_figure_that_is_not_defined_is_a_dash_and_zero_has_no_minus():
    table = _table(Row(("a", Estimate(None), Estimate(-0.001))), Row(("b", Estimate(-12.5))))
    latex = latex_table(table)
    assert r"    a & {\textendash{}} & +0.00 \\" in latex and r"    b & -12.500 \\" in latex
    assert "table-format=-2.3" in latex and "table-format=+1.2" in latex
    assert "| a | – | +0.00 |\n| b | -12.500 |  |" in markdown_table(table)


def _cells(line):
    """The cells of a line of Markdown, as GitHub reads them."""
    inner = re.split(r"(?<!\\)\|", line.replace(r"\\", "\0"))[1:-1]
    return [re.sub(r"\\(.)", r"\1", cell).replace("\0", "\\").strip() for cell in inner]


def test_text_stays_in_its_cell_of_markdown():
    for text in (NASTY, "a|b", "a\\|b", "a\nb", "`|`", hostile.NAME):
        line = markdown_table(_table(Row((text, Estimate(0.5)), bold=(1,)))).splitlines()[2]
        cells = _cells(line)
        shown = "".join(text.split()) if text == NASTY else None
        assert len(cells) == 3 and cells[1] == "**0.500**"
        assert shown is None or "".join(cells[0].split()) == shown
        assert not hostile.HARMFUL.search(line)
    for sign in "|`*_[]<>~\\":
        assert markdown_text(sign) == f"\\{sign}"


def test_the_markdown_table_has_the_figures_of_the_latex_table(results):
    lines = markdown_table(layer_paper_table(results)).splitlines()
    summary, scores = results.read()
    for score, line in zip(scores, lines[2:], strict=False):
        cells = _cells(line.replace("**", ""))
        assert cells[:2] == [
            str(score.layer), f"{score.score:.3f} [{score.low:.3f}, {score.high:.3f}]",
        ]  # fmt: skip
        assert ("**" in line) == (score.layer == summary["best_layer"])
    assert any(line.startswith("| chance | 0.250 |") for line in lines)
    assert len({line.replace(r"\|", "").count("|") for line in lines if line.startswith("|")}) == 1


def test_csv_holds_every_layer_in_full_and_a_spreadsheet_runs_nothing(hostile_results):
    body = b"".join(layer_csv(hostile_results)).decode()
    found = list(csv.DictReader(io.StringIO(body)))
    summary, scores = hostile_results.read()
    for score, line in zip(scores, found, strict=True):
        for name in ("layer", "score", "low", "high", "p_corrected", "chance", "strength"):
            assert float(line[name]) == getattr(score, name)
        recall = [float(line[name]) for name in line if name.startswith("recall of ")]
        assert recall == list((score.recall or {}).values())
        assert line["rmse"] == "" and line["statistic"] == "accuracy"
        assert int(line["selected"]) == (score.layer == summary["best_layer"])
    assert not hostile.HARMFUL.search(body.replace("\r\n", ""))


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        ("=1+1", "'=1+1"), ("+x", "'+x"), ("-x", "'-x"), ("@x", "'@x"), ("-2.5", "-2.5"),
        ("+3e-4", "+3e-4"), ("-2.5+cmd", "'-2.5+cmd"), (-0.5, "-0.5"), ("a,b", '"a,b"'),
        ("\x1b[2J", r"\x1b[2J"), ("=\n", r"'=\n"),
    ],
)  # fmt: skip
def test_a_cell_of_csv_is_text_or_a_number(cell, written):
    assert csv_text_line(None, cell).decode() == f",{written}\r\n"
