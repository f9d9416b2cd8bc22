"""`results/NAME/study.json`: with which setting the runs of a study are probed, and what cannot be computed.

The name of a setting follows from the options of `vsp probe` in the study's file. It is kept, so that a
report needs neither these options nor a class of the user that they may name. Figures that cannot be
computed are kept with the reason, so that the study counts as finished without them.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from vsp.choices import LAST
from vsp.config import Frozen
from vsp.errors import RunError
from vsp.storage.find_results import find_results
from vsp.storage.results import Results
from vsp.storage.study import Study, results_folder, study_path
from vsp.utils.files import json_matches, json_sha256, write_json
from vsp.utils.reading import read_json, unreadable

FORMAT = 1  # of the file; another one is not read
_FILE = "study.json"


class NotMade(Frozen):
    """Why a part of a study was not computed, and from what it would have been."""

    made_from: str  # the results and plans
    why: str


class StudyRecord(Frozen):
    """What `vsp study` keeps about a study besides its figures."""

    probe: tuple[str, ...] = ()  # the options of `vsp probe` that make the setting
    setting: Annotated[str, Field(pattern=r"^([A-Za-z0-9_,-][A-Za-z0-9_.,-]{0,150})?$")] = ""
    not_made: Mapping[str, NotMade] = Field(default_factory=dict)  # by part


def read_record(study: Study, work: Path) -> StudyRecord:
    """What is kept; an empty record if nothing is. Raises RunError for a file that cannot be read."""
    path = results_folder(study.name, work) / _FILE
    try:
        values = read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        return StudyRecord()
    except OSError as error:
        raise RunError(f"{path}: {unreadable(error)}; remove it") from None
    except (ValueError, RecursionError):
        values = None
    digest = values.pop("sha256", None) if isinstance(values, dict) else None
    known = isinstance(values, dict) and values.pop("format", None) == FORMAT
    if known and json_matches(values, digest):
        try:
            return StudyRecord.model_validate(values)
        except ValidationError:
            pass
    raise RunError(
        f"{path}: is not what vsp wrote; remove it, then `vsp study {study.name}` makes it again"
    )


def write_record(study: Study, record: StudyRecord, work: Path) -> None:
    values = record.model_dump(mode="json")
    path = results_folder(study.name, work) / _FILE
    write_json(path, {"format": FORMAT, **values, "sha256": json_sha256(values)})


def role_results(study: Study, role: str, work: Path) -> Results:
    """The results of a run with the study's setting of the probe.

    If the study names no options of the probe and the run has no results with the default ones, they are
    the newest at the last token. Raises RunError if there are none.
    """
    name, record = study.runs[role], read_record(study, work)
    if study.probe and record.probe != study.probe:
        raise RunError(
            f"not probed yet with the options of {study_path(study.name, work)}; `vsp study "
            f"{study.name}` does that"
        )
    if record.setting and record.probe == study.probe:
        with suppress(RunError):
            found = find_results(name, work, probe=record.setting)
            if found.setting == record.setting:
                return found
        if study.probe:
            raise RunError(f"not probed yet with the study's setting {record.setting}")
    return find_results(name, work, LAST)
