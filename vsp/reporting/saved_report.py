"""`vsp report --save`: the report and its figures as files beside the results."""

from __future__ import annotations

from pathlib import Path

from rich.console import Group

from vsp.errors import RunError
from vsp.reporting.class_plots import plot_classes, plot_heatmap
from vsp.reporting.curve_plot import plot
from vsp.reporting.figure_file import STYLES, FigureStyle
from vsp.reporting.page.page_run import read_page_run
from vsp.reporting.page.report_page import runs_page
from vsp.reporting.probe_report import first_sentences, report_page
from vsp.storage.results import HTML_REPORT, REPORT, Results
from vsp.storage.stored_settings import StoredSetting, stored_settings
from vsp.utils.files import write_text
from vsp.utils.terminal import folded_text, plain_text
from vsp.utils.text import format_count


def save_report(results: Results) -> tuple[list[Path], tuple[str, ...]]:
    """Write `report.txt`, `report.html` and figures into the folder of the results.

    Returns their paths, and what `report.html` leaves out with the reasons.

    `report.txt` in `results/RUN/` then lists all settings of the run, each with its first sentences.

    `curve` shows the score of each layer; for labels, `classes` shows the recall of each, as curves
    or, for more labels than curves can be told apart, as a heat map. `report.html` needs no states and
    no pictures, so it has no projection and no gallery. `report.txt` is written last: `vsp status`
    takes it as the end. Raises RunError if the results were changed, DiskError if a file cannot be
    written.
    """
    summary, _ = results.read()
    folder, style = results.folder, FigureStyle()
    paths = [folder / REPORT, *(folder / f"curve{suffix}" for suffix in (".png", ".svg"))]
    for path in paths[1:]:
        plot(results, path, style)
    n_classes = len(summary["peak"]["recall"] or {})
    if n_classes:
        paths.append(folder / "classes.png")
        draw = plot_classes if n_classes <= len(STYLES) else plot_heatmap
        draw(results, paths[-1], style)
    paths.append(folder / HTML_REPORT)
    page = runs_page([read_page_run(results.name, results)], with_states=False)
    write_text(paths[-1], page.text)
    write_text(paths[0], plain_text(report_page(results)) + "\n")
    if results.folder.absolute() != results.home.absolute():  # otherwise the page itself lies there
        paths.append(results.home / REPORT)
        write_text(paths[-1], _overview(results))
    return paths, page.left_out


def _overview(results: Results) -> str:
    """The settings of a run, the one written last first: the first sentences and the page of each."""
    settings = stored_settings(results.home)
    n = format_count(len(settings), "setting")
    parts = [f"run {results.name}: {n} of the probe, the newest first", *map(_entry, settings)]
    return plain_text(Group(*map(folded_text, "\n\n".join(parts).split("\n")))) + "\n"


def _entry(one: StoredSetting) -> str:
    """A setting, its first sentences or why it cannot be read, and where to read on."""
    name = one.name or one.results.folder.name
    try:
        said = first_sentences(one.results)
    except RunError as error:
        return f"{name}\n{error}"
    page = one.results.folder / REPORT
    inside = page.relative_to(one.results.home)
    has_page = one.results.setting and page.exists()
    if not has_page:
        return f"{name}\n{said}\npage: `vsp report --run {one.results.name} --probe {name} --save`"
    html = inside.with_name(HTML_REPORT)
    for_browser = f"\nfor a browser: {html}" if (one.results.home / html).exists() else ""
    return f"{name}\n{said}\npage: {inside}{for_browser}"
