"""From a result to a figure in a paper.

A doctoral student has a probed run and needs a figure, a table and the sentence that cites it.
"""

from helpers.journey import User
from PIL import Image


def test_from_a_result_to_a_figure_in_a_paper(project):
    user = User(project)
    user.types(
        17, "vsp report fake-demo --plot curve.png", "the page, and where the figure is",
        "No layer beats chance", "wrote curve.png",
    )  # fmt: skip
    with Image.open(project / "curve.png") as figure:
        assert figure.width > 1000
    user.types(
        18, "vsp report fake-demo --plot curve.pdf --width single --font-size 7",
        "a figure for one column", "wrote curve.pdf",
    )  # fmt: skip
    assert (project / "curve.pdf").read_bytes().startswith(b"%PDF")
    user.types(
        19, "vsp report fake-demo --plot curve.jpeg", "which formats there are",
        "curve.jpeg", ".png, .svg or .pdf", code=1,
    )  # fmt: skip
    user.types(
        20, "vsp report fake-demo --plot classes.svg --figure classes", "a curve for each class",
        "wrote classes.svg",
    )  # fmt: skip
    user.types(
        21, "vsp report fake-demo --plot matrix.png --figure confusion --layer 99",
        "which layers there are", "99", "layers 0-2", code=1,
    )  # fmt: skip
    user.types(
        22, "vsp report fake-demo --figure heatmap", "that a figure needs a file", "--plot", code=1
    )
    user.types(
        23, "vsp report fake-demo --width 40parsecs --plot wide.png", "what width is possible",
        "40parsecs", code=2,
    )  # fmt: skip
    user.types(
        24, "vsp report fake-demo --latex table.tex --csv layers.csv", "where both tables are",
        "wrote table.tex", "wrote layers.csv",
    )  # fmt: skip
    table = (project / "table.tex").read_text()
    assert r"\toprule" in table and str(project) not in table
    seen = user.types(
        25, "vsp report fake-demo --markdown -", "a table to paste, and nothing else", "| layer |"
    )
    assert seen.out.lstrip().startswith("|") or "| layer" in seen.out
    user.types(
        26, "vsp report fake-demo --csv missing/layers.csv", "the table, in a new folder",
        "wrote missing/layers.csv",
    )  # fmt: skip
    user.types(
        27, "vsp compare fake-demo fake-demo-question --plot both.png --layer-axis relative",
        "what differs first, then the layers, then where the figure is",
        "The runs differ in prompt", "wrote both.png",
    )  # fmt: skip
    user.types(
        28, "vsp compare fake-demo fake-demo-question --plot gap.svg --figure difference",
        "the differences with their intervals as a figure", "wrote gap.svg",
    )  # fmt: skip
    seen = user.types(
        29, "vsp report fake-demo --rows knows-not-says",
        "the rows that the probe reads and the model does not say", "margin",
    )  # fmt: skip
    user.types(
        30, "vsp report fake-demo --save", "the report as files beside the results", "report.txt"
    )
    kept = next(project.glob("results/fake-demo/*/report.txt")).read_text()
    assert "The figure to cite" in kept
