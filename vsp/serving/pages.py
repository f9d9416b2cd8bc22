"""The pages of a project folder: the index, and the page of each run, made when they are asked for.

Nothing is written. A page is made again once its results have changed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from importlib.resources import files
from pathlib import Path
from threading import Lock

from vsp.cluster.contract import Scheduler
from vsp.errors import VspError
from vsp.reporting.kept_verdicts import KeptVerdicts
from vsp.reporting.page.document import page, policy, web_file
from vsp.reporting.page.elements import paragraphs
from vsp.reporting.page.markup import tag
from vsp.reporting.page.page_run import read_page_run
from vsp.reporting.page.report_page import runs_page
from vsp.reporting.page.study_page import study_html
from vsp.reporting.study_facts import study_facts
from vsp.serving.addresses import STUDY, Address, parse_address
from vsp.serving.http_server import Answer
from vsp.serving.index_page import index_page
from vsp.serving.job_states import JobStates
from vsp.serving.shown_results import check_inside, setting_folder
from vsp.storage.results import Results
from vsp.storage.run_list import RESULTS, SCRATCH, run_names
from vsp.storage.stored_settings import stored_settings
from vsp.storage.study import Study, read_study, study_names, study_path

_MOST_KEPT = 8  # pages in memory, a few MB each

# What the files of results were when a page was made: (name, size, time of the last change).
_State = tuple[tuple[str, int, int], ...]
_Key = tuple[tuple[Path, _State], ...]


class Pages:
    """Answers requests with the pages of the project folder `work`."""

    def __init__(self, work: Path, scheduler: Scheduler | None = None) -> None:
        """`scheduler` is asked for the jobs of runs; None: only journals are read."""
        self._work = work
        self._jobs = JobStates(scheduler)
        self._verdicts = KeptVerdicts()
        self._kept: OrderedDict[_Key, bytes] = OrderedDict()
        self._lock = Lock()
        self._policy = _policy()

    def answer(self, target: str) -> Answer:
        """The answer to a request for this path."""
        address = parse_address(target)
        try:
            if address == Address():
                return self._found(index_page(self._work, self._jobs).encode())
            found = None if address is None else self._named(address)
            if found is None:
                return self._problem(
                    HTTPStatus.NOT_FOUND,
                    "There is no such page",
                    "The index lists all pages of this folder.",
                )
            return self._found(found)
        except (VspError, OSError) as error:  # results may be written or removed just now
            return self._problem(
                HTTPStatus.INTERNAL_SERVER_ERROR, "This page cannot be made", str(error)
            )

    def _named(self, address: Address) -> bytes | None:
        """The page that the index lists under this address; None if there is none.

        Raises RunError if a link in the folder of results leads out of `results/`.
        """
        if address.kind == STUDY:
            return self._study(address.name)
        if address.name not in run_names(self._work):
            return None
        for one in stored_settings(self._work / RESULTS / address.name):
            results = one.results
            if address.setting in ("", setting_folder(results)):
                return self._kept_page([one.results.home], [], partial(_run_page, results))
        return None

    def _study(self, name: str) -> bytes | None:
        if name not in study_names(self._work):
            return None
        path = study_path(name, self._work)
        check_inside(path, path.parent)
        study = read_study(name, self._work)
        homes = [self._work / RESULTS / one for one in (name, *study.runs.values())]
        return self._kept_page(homes, [path], partial(self._study_page, study))

    def _study_page(self, study: Study) -> str:
        facts = study_facts(study, self._work, verdicts=self._verdicts)
        return study_html(facts).text

    def _kept_page(
        self, homes: Sequence[Path], others: Sequence[Path], make: Callable[[], str]
    ) -> bytes:
        """The page made of these folders in `results/`, of their runs in `scratch/`, and of other files.

        It is made once, also if several browsers ask at the same time, and again after any of these
        changed, or after a run was added: it may be the untrained model.
        """
        key = [(self._work / RESULTS, _listing(self._work / RESULTS))]
        for home in homes:
            check_inside(home, self._work / RESULTS)
            key.append((home, _state(home)))
            scratch = self._work / SCRATCH / home.name
            key.append((scratch, _state(scratch / "journal") + _state(scratch / "plan.json")))
        key += [(path, _state(path)) for path in others]
        return self._kept_or_made(tuple(key), make)

    def _kept_or_made(self, key: _Key, make: Callable[[], str]) -> bytes:
        with self._lock:
            if key not in self._kept:
                self._kept[key] = make().encode()
            self._kept.move_to_end(key)
            while len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
            return self._kept[key]

    def _found(self, body: bytes) -> Answer:
        return Answer(HTTPStatus.OK, body, policy=self._policy)

    def _problem(self, status: HTTPStatus, title: str, line: str) -> Answer:
        back = tag("a", "All runs of this folder", href="/")
        lead = paragraphs([line, back])
        return Answer(status, page(title, [], lead).encode(), policy=self._policy)


def _run_page(results: Results) -> str:
    return runs_page([read_page_run(results.name, results)]).text


def _state(path: Path) -> _State:
    """Name, size and time of a file, or of all files in a folder and below it; empty without it."""
    return _of_paths(sorted(path.rglob("*")) if path.is_dir() else [path])


def _listing(folder: Path) -> _State:
    """Name, size and time of what is in a folder."""
    return _of_paths(sorted(folder.iterdir()) if folder.is_dir() else [])


def _of_paths(paths: Sequence[Path]) -> _State:
    found = []
    for path in paths:
        with suppress(FileNotFoundError, NotADirectoryError):  # it may be removed just now
            about = path.lstat()
            found.append((str(path), about.st_size, about.st_mtime_ns))
    return tuple(found)


def _policy() -> str:
    """The policy for all pages: only scripts and styles of this package run, and no frame shows them."""
    web = files("vsp") / "web"
    names = [one.name for one in web.iterdir() if one.is_file()]
    names += [f"vendor/{one.name}" for one in (web / "vendor").iterdir() if one.is_file()]
    scripts = [web_file(name) for name in sorted(names) if name.endswith(".js")]
    styles = [web_file(name) for name in sorted(names) if name.endswith(".css")]
    return f"{policy(scripts, styles)}; frame-ancestors 'none'"
