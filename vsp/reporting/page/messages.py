"""Messages of errors as the page shows them: without folders of the machine."""

from __future__ import annotations

import re
from pathlib import Path

from vsp.reporting.page.page_run import PageRun

_FOLDERS = re.compile(r"(?<![\w.~/-])/(?:[^/\s:;,]+/)+")


def without_folders(message: str, run: PageRun) -> str:
    """The message in which an absolute path has its last part alone.

    The folders of the run, its dataset and its checkpoint may hold spaces; others may not.
    """
    named = [Path(one) for one in (run.plan.dataset, run.plan.model.checkpoint) if one]
    folders = [run.results.home.absolute().parents[1]]
    folders += [one.parent for one in named if one.is_absolute()]
    for folder in sorted({f"{one}/" for one in folders if one.name}, key=len, reverse=True):
        message = message.replace(folder, "")
    return _FOLDERS.sub("", message)
