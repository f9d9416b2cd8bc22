"""`vsp report --save`: the report and its figures as files beside the results."""

from __future__ import annotations

from pathlib import Path

from vsp.reporting.class_plots import plot_classes, plot_heatmap
from vsp.reporting.curve_plot import plot
from vsp.reporting.figure_file import STYLES, FigureStyle
from vsp.reporting.probe_report import report_page
from vsp.storage.results import REPORT, Results
from vsp.utils.files import write_aside
from vsp.utils.terminal import plain_text


def save_report(results: Results) -> list[Path]:
    """Write `report.txt` and figures into the folder of the results; returns what was written.

    `curve` shows the score of each layer; for labels, `classes` shows the recall of each, as curves
    or, for more labels than curves can be told apart, as a heat map. Raises RunError if the results
    were changed, DiskError if a file cannot be written.
    """
    summary, _ = results.read()
    folder, style = results.folder, FigureStyle()
    paths = [folder / REPORT, *(folder / f"curve{suffix}" for suffix in (".png", ".svg"))]
    with write_aside(paths[0]) as file:
        file.write((plain_text(report_page(results)) + "\n").encode())
    for path in paths[1:]:
        plot(results, path, style)
    n_classes = len(summary["peak"]["recall"] or {})
    if n_classes:
        paths.append(folder / "classes.png")
        draw = plot_classes if n_classes <= len(STYLES) else plot_heatmap
        draw(results, paths[-1], style)
    return paths
