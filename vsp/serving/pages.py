"""The pages of a project folder: the index, and the page of each run, made when they are asked for.

Nothing is written. A page is made again once its results have changed.
"""

from __future__ import annotations

from collections import OrderedDict
from http import HTTPStatus
from importlib.resources import files
from pathlib import Path
from threading import Lock

from vsp.errors import VspError
from vsp.reporting.page.document import page, policy, web_file
from vsp.reporting.page.elements import paragraphs
from vsp.reporting.page.markup import tag
from vsp.reporting.page.page_run import read_page_run
from vsp.reporting.page.report_page import runs_page
from vsp.serving.addresses import RUN, Address, parse_address
from vsp.serving.http_server import Answer
from vsp.serving.index_page import index_page
from vsp.serving.shown_results import check_inside, setting_folder
from vsp.storage.results import Results
from vsp.storage.run_list import RESULTS, run_names
from vsp.storage.stored_settings import stored_settings

_MOST_KEPT = 8  # pages in memory, a few MB each

# What the files of results were when a page was made: (name, size, time of the last change).
_State = tuple[tuple[str, int, int], ...]


class Pages:
    """Answers requests with the pages of the project folder `work`."""

    def __init__(self, work: Path) -> None:
        self._work = work
        self._kept: OrderedDict[tuple[Path, _State], bytes] = OrderedDict()
        self._lock = Lock()
        self._policy = _policy()

    def answer(self, target: str) -> Answer:
        """The answer to a request for this path."""
        address = parse_address(target)
        try:
            if address == Address():
                return self._found(index_page(self._work).encode())
            results = None if address is None else self._results(address)
            if results is None:
                return self._problem(
                    HTTPStatus.NOT_FOUND,
                    "There is no such page",
                    "The index lists all pages of this folder.",
                )
            return self._found(self._page(results))
        except VspError as error:
            return self._problem(
                HTTPStatus.INTERNAL_SERVER_ERROR, "This page cannot be made", str(error)
            )

    def _results(self, address: Address) -> Results | None:
        """The results that the index lists under this address; None if there are none.

        Raises RunError if a link in their folder leads out of `results/`.
        """
        if address.kind != RUN or address.name not in run_names(self._work):
            return None
        home = self._work / RESULTS / address.name
        for one in stored_settings(home):
            if address.setting in ("", setting_folder(one.results)):
                check_inside(one.results.folder, self._work / RESULTS)
                return one.results
        return None

    def _page(self, results: Results) -> bytes:
        """The page of results; it is made once, also if several browsers ask at the same time."""
        key = results.folder, _state(results.folder)
        with self._lock:
            if key not in self._kept:
                run = read_page_run(results.name, results)
                self._kept[key] = runs_page([run]).encode()
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


def _state(folder: Path) -> _State:
    """Name, size and time of the files of results."""
    found = []
    for path in sorted(folder.iterdir()):
        about = path.lstat()
        found.append((path.name, about.st_size, about.st_mtime_ns))
    return tuple(found)


def _policy() -> str:
    """The policy for all pages: only scripts and styles of this package run, and no frame shows them."""
    web = files("vsp") / "web"
    names = [one.name for one in web.iterdir() if one.is_file()]
    names += [f"vendor/{one.name}" for one in (web / "vendor").iterdir() if one.is_file()]
    scripts = [web_file(name) for name in sorted(names) if name.endswith(".js")]
    styles = [web_file(name) for name in sorted(names) if name.endswith(".css")]
    return f"{policy(scripts, styles)}; frame-ancestors 'none'"
