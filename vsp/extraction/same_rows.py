"""The rows of another run: a variant of its dataset takes their order, groups and splits.

Without this, two runs of one study could differ in what they test: pictures that are copies of each
other join groups, `--limit` takes the first rows after those about one image were moved together, and
a grey picture is the same for many rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vsp.errors import DatasetError
from vsp.storage.manifest import Sample


def rows_of(name: str, samples: Sequence[Sample], others: Sequence[Sample]) -> list[Sample]:
    """The samples of the rows that run `name` has, with the order, groups and splits of its `others`.

    Raises DatasetError if the samples lack one of its rows, or if ids are not unique.
    """
    by_id = {sample.id: sample for sample in samples}
    missing = [other.id for other in others if other.id not in by_id]
    if missing:
        raise DatasetError(
            f"has no row {missing[0]!r}, and {len(missing)} of {len(others)} rows of run {name} are "
            "missing; make the variant again"
        )
    if len({other.id for other in others}) < len(others) or len(by_id) < len(samples):
        raise DatasetError(f"ids repeat, so rows cannot be paired with those of run {name}")
    return [replace(by_id[other.id], group=other.group, split=other.split) for other in others]
