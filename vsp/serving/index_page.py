"""The index: a table of the runs of a project folder, with links to their pages."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path, PurePath

from vsp.errors import RunError, VspError
from vsp.reporting.page.document import page
from vsp.reporting.page.elements import paragraphs
from vsp.reporting.page.markup import Child, Html, joined, tag
from vsp.reporting.page.section import Section
from vsp.reporting.runs_page import RunRow, peak_words, run_columns
from vsp.serving.addresses import RUN, STUDY, Address
from vsp.serving.job_states import JobStates
from vsp.serving.shown_results import check_inside, setting_folder
from vsp.storage.results import Results
from vsp.storage.run_list import RESULTS, FoundPeak, list_runs
from vsp.storage.study import Study, read_study, study_names, study_path
from vsp.utils.text import format_count

_OF_STUDY = ("study", "question", "model", "dataset", "runs with results")
_RIGHT = ("done", "probes", "chance", "layer", "size")
_LONG = ("run", "study", "question", "setting")  # texts that are wrapped


def index_page(work: Path, jobs: JobStates) -> str:
    """The page of all runs in `work`, as `vsp runs` lists them, the newest first."""
    listed = list_runs(work)
    found, notes = jobs.of(listed)
    rows = [RunRow(one, activity) for one, activity in zip(listed, found, strict=True)]
    name = work.absolute().name or "/"
    studies, problems = _studies(work)
    if not rows and not studies and not problems:
        lead = paragraphs([f"{work.absolute()} holds no run; vsp plan makes one."])
        return page(f"Runs in {name}", [], lead)
    shown = [_Listed(row, work) for row in rows]
    with_results = {one.row.listed.name for one in shown if one.peaks}
    of_studies = _study_table(studies, with_results)
    sections = [Section("studies", "Studies", of_studies)] if studies else []
    sections += [Section("runs", "Runs", _run_table(shown))] if shown else []
    several = [one for one in shown if len(one.peaks) > 1]
    if several:
        sections.append(Section("settings", "Settings of the probe", _setting_table(several)))
    problems += [problem for one in shown for problem in one.problems]
    if problems:
        items = tag("ul", *(tag("li", one) for one in problems))
        sections.append(Section("problems", "What cannot be read", items))
    about = (
        f"{work.absolute()}: {format_count(len(rows), 'run')}, {len(with_results)} with results. The name of "
        "a run leads to the results that were written last."
    )
    cautions = paragraphs([f"{one[:1].upper()}{one[1:]}." for one in notes], class_="caution")
    return page(f"Runs in {name}", sections, joined([paragraphs([about]), cautions]))


def _studies(work: Path) -> tuple[list[Study], list[str]]:
    """The studies, and why others cannot be read."""
    studies, problems = [], []
    for name in study_names(work):
        try:
            path = study_path(name, work)
            check_inside(path, path.parent)
            studies.append(read_study(name, work))
        except VspError as error:
            problems.append(str(error))
    return studies, problems


def _study_table(studies: Sequence[Study], with_results: Collection[str]) -> Html:
    body: list[list[Child]] = []
    for one in studies:
        n_probed = sum(run in with_results for run in one.runs.values())
        # The page of a study is made of results.
        href = Address(STUDY, one.name).path() if n_probed else None
        name: Child = tag("a", one.name, href=href) if href else one.name
        dataset = PurePath(one.dataset).name
        body.append([name, one.question, one.model, dataset, f"{n_probed} of {len(one.runs)}"])
    return _table("Studies", _OF_STUDY, body)


class _Listed:
    """A run of the index, and those of its results that can be shown."""

    def __init__(self, row: RunRow, work: Path) -> None:
        self.row = row
        self.problems = list(row.listed.problems)
        self.peaks: Sequence[FoundPeak] = row.listed.peaks
        self.home = work / RESULTS / row.listed.name
        try:
            check_inside(self.home, work / RESULTS)
        except RunError as error:
            self.problems.append(str(error))
            self.peaks = ()

    def setting(self, peak: FoundPeak) -> str:
        return setting_folder(Results(peak.folder, self.home))


def _run_table(shown: Sequence[_Listed]) -> Html:
    columns = run_columns([one.row for one in shown])
    jobs = {"jobs": columns.pop("jobs")} if "jobs" in columns else {}
    columns = {"run": columns.pop("run"), **jobs, **columns}  # where no width cuts them off
    body = [
        [_run_link(one), *(column(one.row) for name, column in columns.items() if name != "run")]
        for one in shown
    ]
    return _table("Runs", [*columns], body)


def _run_link(one: _Listed) -> Child:
    name = one.row.listed.name
    if not one.peaks:
        return name
    return tag("a", name, href=Address(RUN, name).path())


def _setting_table(several: Sequence[_Listed]) -> Html:
    """A link to each setting of the probe, with its peak."""
    body: list[list[Child]] = []
    for one in several:
        for peak in one.peaks:
            setting = one.setting(peak)
            href = Address(RUN, one.row.listed.name, setting).path()
            link = tag("a", setting or peak.probe, href=href)
            body.append([one.row.listed.name, link, peak_words([peak])])
    return _table("Settings of the probe", ("run", "setting", "peak"), body)


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Child]]) -> Html:
    """A table whose cells are not wrapped, except long texts; it scrolls where the page is narrow."""
    look = ["number" if name in _RIGHT else "long" if name in _LONG else None for name in columns]
    head = [tag("th", one, scope="col", class_=how) for one, how in zip(columns, look, strict=True)]
    body = [
        tag(
            "tr",
            tag("th", row[0], scope="row", class_=look[0]),
            *(tag("td", one, class_=how) for one, how in zip(row[1:], look[1:], strict=True)),
        )
        for row in rows
    ]
    table = tag("table", tag("thead", tag("tr", *head)), tag("tbody", *body), class_="index")
    return tag(
        "div", table, class_="scroll", tabindex=0, role="region", aria_label=f"{title}, table"
    )
