"""Verdicts of studies that are kept in memory, so that a server computes each of them once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from hashlib import sha256

from vsp.evaluation.judged_variants import JudgedVariant, digest_of
from vsp.evaluation.verdict import StudyVerdict, VerdictSettings, study_verdict
from vsp.storage.results import Results

_MOST = 16


class KeptVerdicts:
    """The newest verdicts by the digests of what they are made of. Not for several threads at once."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, StudyVerdict] = OrderedDict()

    def of(
        self,
        results: Mapping[str, Results],
        judged: Mapping[str, JudgedVariant],
        settings: VerdictSettings,
    ) -> StudyVerdict:
        """The verdict of these results; raises what `study_verdict` raises."""
        key = _digest(results, judged, settings)
        if key not in self._kept:
            self._kept[key] = study_verdict(results, judged, settings)
        self._kept.move_to_end(key)
        while len(self._kept) > _MOST:
            self._kept.popitem(last=False)
        return self._kept[key]


def _digest(
    results: Mapping[str, Results], judged: Mapping[str, JudgedVariant], settings: VerdictSettings
) -> str:
    """SHA-256 of the settings, of the sealed summaries, which have digests of all files, and of the
    judged rows."""
    found = sha256(repr(settings).encode())
    for role, one in sorted(results.items()):
        found.update(
            f"\n{role} {one.home.absolute()} {digest_of(one)}".encode(errors="surrogateescape")
        )
    for role, rows in sorted(judged.items()):
        found.update(f"\n{role} {rows.n_left_out}".encode())
        for array in (rows.id, rows.label, rows.classes, rows.predicted):
            found.update(f"{array.dtype} {array.shape} ".encode() + array.tobytes())
    return found.hexdigest()
