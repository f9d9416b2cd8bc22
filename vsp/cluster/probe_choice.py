"""How the probe stage of a submission probes: options of `vsp probe`, and the settings that they make."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

from vsp.choices import DEFAULT_PROBE, LAST
from vsp.storage.run import Run


@dataclass(frozen=True, slots=True)
class ProbeChoice:
    """Options of `vsp probe` for the probe stage. Without any, it probes as `vsp probe` does."""

    words: tuple[str, ...] = ()  # as they are typed after --
    names: Mapping[str, str] = field(default_factory=dict)  # position → folder in results/RUN/
    position: str | None = None  # the one that the words name; None: each that a run has
    layers: bool = False  # whether the words name layers

    def settings(self, run: Run) -> tuple[str, ...]:
        """The folders in `results/RUN/` that the probe stage writes; empty if they are not known.

        Raises RunError if the run has no states at the position.
        """
        if run.plan.effects is not None:
            return ()
        if self.position is not None:
            run.states(self.position)
            return (self.names[self.position],)
        stored = run.plan.stored_positions
        return tuple(self.names[one] for one in stored if one in self.names)

    @property
    def shown(self) -> str | None:
        """The setting that stands for all in a table of runs; None: the newest."""
        return self.names.get(self.position or LAST)


def probe_words(words: tuple[str, ...]) -> str:
    """The words as the end of a command of vsp: " -- --probe mass-mean"; empty without any."""
    return f" -- {shlex.join(words)}" if words else ""


def report_words(settings: tuple[str, ...]) -> str:
    """The option with which `vsp report` shows the first of these settings; empty for the default."""
    return f" --probe {settings[0]}" if settings and settings[0] != DEFAULT_PROBE else ""


def named_settings(settings: tuple[str, ...]) -> str:
    """The settings in words, empty for the default at the last token alone."""
    return "" if settings in ((), (DEFAULT_PROBE,)) else ", ".join(settings)
