"""Figures for papers: size, fonts, styles, the same bytes again, and what is refused."""

import itertools
import os
import re
import subprocess
import sys
from dataclasses import replace

import matplotlib
import numpy as np
import pytest
from helpers import made
from PIL import Image

from vsp.cli.main import main
from vsp.errors import ConfigError
from vsp.evaluation.compare import ComparisonSettings, compare
from vsp.reporting.class_plots import plot_classes, plot_confusion, plot_heatmap
from vsp.reporting.curve_plot import plot, plot_runs
from vsp.reporting.difference_plot import plot_differences
from vsp.reporting.figure_file import STYLES, SUFFIXES, FigureStyle, figure
from vsp.storage.stored_settings import choose_setting

SINGLE = FigureStyle(width=8.4)
OF_REPORT = {
    "curve": plot,
    "classes": plot_classes,
    "confusion": plot_confusion,
    "heatmap": plot_heatmap,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the results of three runs, of 13, 13 and 25 layers."""
    work = tmp_path_factory.mktemp("figures")
    for name, n_layers, seed in (("first", 13, 0), ("second", 13, 1), ("deep", 25, 2)):
        plan = made.plan(
            name,
            n_layers=n_layers,
            dataset="/home/someone/data/spatial",
            model={"family": "llava15", "checkpoint": "/scratch/someone/llava-7b"},
        )
        made.made(
            work / "results" / name,
            made.predictions(made.accuracies(n_layers), seed=seed),
            plan=plan.model_dump(mode="json"),
        )
    return work


def _results(folder, name):
    return choose_setting(folder / "results" / name)


def _svg(path):
    """The texts of an SVG, one line each."""
    return re.findall(r"<text[^>]*>([^<]*)</text>", path.read_text())


_DRAW = """
import sys
from pathlib import Path
from vsp.reporting import class_plots, curve_plot
from vsp.reporting.figure_file import FigureStyle
from vsp.storage.stored_settings import choose_setting

folder, style = Path(sys.argv[1]), FigureStyle(width=8.4)
runs = [(name, choose_setting(Path("results") / name)) for name in ("first", "deep")]
for suffix in ("png", "svg", "pdf"):
    curve_plot.plot_runs(runs, folder / f"runs.{suffix}", style)
    class_plots.plot_confusion(runs[0][1], folder / f"confusion.{suffix}", style)
curve_plot.plot(runs[0][1], folder / "curve.pdf", style)
assert "matplotlib.pyplot" not in sys.modules
"""


def test_two_processes_write_the_same_bytes(folder):
    for name, seed in (("one", "1"), ("two", "2")):
        env = {**os.environ, "PYTHONHASHSEED": seed, "SOURCE_DATE_EPOCH": f"{seed}00000"}
        env["MATPLOTLIBRC"] = str(folder / name)
        (folder / name).mkdir()
        (folder / name / "matplotlibrc").write_text(f"xtick.major.size: {seed}\n")
        command = [sys.executable, "-c", _DRAW, name]
        answer = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
        assert answer.returncode == 0, answer.stderr
    first = {path.name: path.read_bytes() for path in (folder / "one").iterdir()}
    second = {path.name: path.read_bytes() for path in (folder / "two").iterdir()}
    for files in (first, second):
        files.pop("matplotlibrc")
    assert len(first) == 7 and first == second


@pytest.mark.parametrize("kind", OF_REPORT)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_figure_has_the_width_that_was_asked_for(folder, tmp_path, kind, suffix):
    path = tmp_path / f"a{suffix}"
    OF_REPORT[kind](_results(folder, "first"), path, SINGLE)
    points = 8.4 / 2.54 * 72
    if suffix == ".png":
        with Image.open(path) as image:
            assert image.width == pytest.approx(points / 72 * 300, abs=1)
            assert image.info["dpi"][0] == pytest.approx(300, abs=1)
    elif suffix == ".svg":
        assert float(re.findall(r'width="([\d.]+)pt"', path.read_text())[0]) == pytest.approx(
            points
        )
    else:
        (box,) = re.findall(rb"/MediaBox \[ *0 0 ([\d.]+) ", path.read_bytes())
        assert float(box) == pytest.approx(points, abs=0.01)


def test_a_pdf_embeds_its_fonts_as_truetype_and_has_no_date(folder, tmp_path):
    plot(_results(folder, "first"), tmp_path / "a.pdf")
    body = (tmp_path / "a.pdf").read_bytes()
    assert b"/FontFile2" in body and b"/Type3" not in body and b"CreationDate" not in body


def test_text_has_the_size_that_was_asked_for(folder, tmp_path):
    plot(_results(folder, "first"), tmp_path / "a.svg", FigureStyle(font_size=11))
    sizes = set(re.findall(r"font-size: ([\d.]+)px", (tmp_path / "a.svg").read_text()))
    assert sizes == {"11"}


def test_curves_are_told_apart_without_colour():
    assert len({(mark, line) for _, mark, line in STYLES}) == len(STYLES)
    assert len({mark for _, mark, _ in STYLES}) == len(STYLES)
    assert len({color for color, _, _ in STYLES}) == len(STYLES)


def test_cells_of_a_matrix_darken_with_their_value(folder, tmp_path):
    """The lightness alone shows the order, as in grey print."""
    colors = matplotlib.colormaps["Blues"](np.linspace(0, 1, 20))[:, :3]
    grey = colors @ [0.299, 0.587, 0.114]
    assert (np.diff(grey) < 0).all()
    plot_confusion(_results(folder, "first"), tmp_path / "a.png", SINGLE)
    with Image.open(tmp_path / "a.png") as image:
        assert len(set(image.convert("L").tobytes())) > 50


def _settings():
    names = [name for name in matplotlib.rcParams if name != "backend"]  # to read it imports pyplot
    return {name: matplotlib.rcParams[name] for name in names}


def test_drawing_leaves_the_settings_of_matplotlib_alone(folder, tmp_path):
    before = _settings()
    plot(_results(folder, "first"), tmp_path / "a.png", SINGLE)
    assert _settings() == before


def test_titles_show_names_and_no_paths(folder, tmp_path):
    runs = [(name, _results(folder, name)) for name in ("first", "second")]
    pairs = compare(runs, ComparisonSettings(resamples=20, flips=9))
    for kind, draw in OF_REPORT.items():
        draw(runs[0][1], tmp_path / f"{kind}.svg", FigureStyle())
    plot_runs(runs, tmp_path / "runs.svg")
    plot_differences(pairs, runs, tmp_path / "differences.svg", FigureStyle())
    for path in tmp_path.glob("*.svg"):
        assert "llava-7b" in path.read_text() and "someone" not in path.read_text(), path.name
    assert any(text.startswith("spatial · llava-7b") for text in _svg(tmp_path / "curve.svg"))


def test_a_title_can_be_replaced_and_left_out(folder, tmp_path):
    for title, shown in (("my title", ["my title"]), ("", [])):
        plot(_results(folder, "first"), tmp_path / "a.svg", FigureStyle(title=title))
        texts = _svg(tmp_path / "a.svg")
        assert not any("llava-7b" in text for text in texts)
        assert [text for text in texts if text == "my title"] == shown


def test_the_figure_of_classes_has_a_curve_for_each(folder, tmp_path):
    plot_classes(_results(folder, "first"), tmp_path / "a.svg", FigureStyle())
    assert {*made.NAMES, "mean of all classes", "recall"} <= set(_svg(tmp_path / "a.svg"))


def test_a_confusion_matrix_has_the_shares_of_the_layer_that_was_asked_for(folder, tmp_path):
    results = _results(folder, "first")
    summary, scores = results.read()
    for layer in (None, 3):
        plot_confusion(results, tmp_path / "a.svg", FigureStyle(), layer)
        texts, wanted = _svg(tmp_path / "a.svg"), summary["best_layer"] if layer is None else layer
        counts = np.array(scores[wanted].confusion)
        shares = counts / counts.sum(axis=1, keepdims=True)
        shown = [text for text in texts if re.fullmatch(r"\d\.\d\d", text)]
        assert shown == [f"{share:.2f}" for share in shares.ravel()]
        assert any(
            text.endswith(f"layer {wanted}{'' if layer else ', selected'}") for text in texts
        )


def test_a_class_without_rows_is_grey_and_not_zero(folder, tmp_path):
    rows = made.predictions(made.accuracies(5))
    scores = [
        replace(one, recall={**(one.recall or {}), "right": None}) if one.layer < 2 else one
        for one in made.scores(rows)
    ]
    results = made.made(tmp_path / "a", rows, scores)
    plot_heatmap(results, tmp_path / "a.png", SINGLE)
    with Image.open(tmp_path / "a.png") as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    assert (pixels == 0xD0).all(axis=1).mean() > 0.02
    plot_heatmap(_results(folder, "first"), tmp_path / "a.svg", SINGLE)
    assert "(grey: no rows)" not in _svg(tmp_path / "a.svg")


@pytest.mark.parametrize(
    ("names", "kind", "words", "last"),
    [
        (("first", "second"), None, "layer (0 = embedding output)", "12"),
        (("first", "deep"), None, "relative depth (0 = embedding output, 1 = last layer)", "1.00"),
        (("first", "deep"), "absolute", "layer (0 = embedding output)", "24"),
        (("first", "second"), "relative", "relative depth (0 = embedding output, 1 = last layer)", "1.00"),
    ],
)  # fmt: skip
def test_layers_are_placed_by_number_or_by_depth(folder, tmp_path, names, kind, words, last):
    plot_runs([(n, _results(folder, n)) for n in names], tmp_path / "a.svg", None, kind)
    texts = _svg(tmp_path / "a.svg")
    ticks = [text for text in texts if re.fullmatch(r"[\d.]+", text)]
    assert words in texts and last in ticks


def test_differences_are_drawn_with_both_names(folder, tmp_path):
    names = ("first", "second", "deep")
    arguments = ["compare", *(str(folder / "results" / name) for name in names)]
    path = tmp_path / "a.svg"
    assert main([*arguments, "--plot", str(path), "--figure", "difference"]) == 0
    texts = _svg(path)
    assert {"second − first", "deep − first", "difference in accuracy"} <= set(texts)
    assert "relative depth (0 = embedding output, 1 = last layer)" in texts


def test_what_the_results_do_not_hold_is_refused(folder, tmp_path, monkeypatch):
    numbers = made.made(tmp_path / "numbers", made.numbers())
    for kind in ("classes", "confusion", "heatmap"):
        with pytest.raises(ConfigError, match=f"--figure {kind}: numbers has no classes, because"):
            OF_REPORT[kind](numbers, tmp_path / "a.png", SINGLE)
    with pytest.raises(ConfigError, match=r"--layer 40: first has no score of this layer; .* 0-12"):
        plot_confusion(_results(folder, "first"), tmp_path / "a.png", SINGLE, 40)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(made, "NAMES", [f"class {i}" for i in range(30)])
        many = made.made(tmp_path / "many", made.predictions(made.accuracies(3)))
    with pytest.raises(ConfigError, match=r"at most 7 curves .* 30 classes; use --figure heatmap"):
        plot_classes(many, tmp_path / "a.png", SINGLE)
    with pytest.raises(
        ConfigError, match=r"30 classes cannot be read at a width of 6 cm; use --wid"
    ):
        plot_confusion(many, tmp_path / "a.png", FigureStyle(width=6))
    assert not (tmp_path / "a.png").exists()


def test_characters_without_a_sign_in_the_font_are_said_in_one_line(tmp_path, caplog):
    with figure(tmp_path / "a.png", SINGLE) as axes:
        axes.plot([0, 1], [0, 1], label="左 and 右")
    (record,) = caplog.records
    assert record.getMessage().endswith("a.png: the font lacks 2 characters, drawn as boxes: 左 右")


def _boxes(axes):
    """Boxes of all texts of a figure that was written, and of the figure itself."""
    from matplotlib.text import Text

    drawn = axes.figure
    drawn.draw_without_rendering()
    beyond = [
        label
        for axis, ends in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim()))
        for tick in axis.get_major_ticks()
        for label in (tick.label1, tick.label2)
        if not ends[0] <= tick.get_loc() <= ends[1] or label is tick.label2
    ]  # not drawn
    texts = [text for text in drawn.findobj(Text) if text.get_text() and text not in beyond]
    return drawn.bbox, [(text.get_text(), text.get_window_extent()) for text in texts]


@pytest.mark.parametrize("width", [6.0, 8.4, 17.4])
@pytest.mark.parametrize("n", [1, 4, 7])
def test_texts_neither_overlap_nor_leave_the_figure(tmp_path, width, n):
    style = FigureStyle(width=width, title="a title of several words, which is long " * 3)
    names = [f"run-{i}-" + "with-a-long-name-" * i for i in range(n)]
    with figure(tmp_path / "a.png", style) as axes:
        for i, name in enumerate(names):
            axes.plot([0, 1], [0, i], label=name)
        axes.set(xlabel="layer (0 = embedding output)", ylabel="accuracy")
        axes.figure.suptitle("a title\nof two lines")
    whole, boxes = _boxes(axes)
    assert len(boxes) >= n + 3
    for text, box in boxes:
        assert whole.x0 - 1 <= box.x0 and box.x1 <= whole.x1 + 1, text
        assert whole.y0 - 1 <= box.y0 and box.y1 <= whole.y1 + 1, text
    for (one, box), (other, beside) in itertools.combinations(boxes, 2):
        assert not box.padded(-1).overlaps(beside.padded(-1)), (one, other)
