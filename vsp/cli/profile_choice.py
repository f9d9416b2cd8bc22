"""The scheduler profile of a command about a run: the one named, or that of the last submission."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vsp.cli.arguments import read_profile
from vsp.errors import ConfigError

if TYPE_CHECKING:
    from vsp.config import Profile
    from vsp.storage.run import Run


def profile_of(run: Run, named: Path | None, *, log: bool) -> tuple[Profile, Path | None]:
    """The profile and its file; None: the usual file, see `read_profile`.

    Raises ConfigError if the file cannot be used.
    """
    from vsp.cluster.submitted import known_submissions, last_submission

    last = last_submission(known_submissions(run)[0])
    if named is not None or last is None or last.profile is None:
        return read_profile(named, log=log), named
    try:
        return read_profile(Path(last.profile), log=log), Path(last.profile)
    except ConfigError as error:
        raise ConfigError(
            f"{error}; the run was submitted with this profile, --profile names another one"
        ) from None
