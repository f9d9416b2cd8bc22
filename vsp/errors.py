"""Errors that a user can fix. Each is one line: what, the value, what to do.

VspError
├── ConfigError     an option or a configuration file
├── DatasetError    a dataset folder: its metadata, its images, its splits
├── ModelError      a checkpoint that cannot be found, read or used
├── InputError      an image or a prompt that the model cannot take; only its row fails
├── DiskError       a full disk, or a folder without write permission
├── StoreError      the array on disk or its journals
├── RunError        a run that is missing, unfinished or changed, or whose name is taken
├── ProbeError      rows from which no probe can be fitted
│   └── EstimatorError  an error in the code of an estimator of the user
└── SchedulerError  a batch system that refuses or does not answer

The command line prints these without a traceback; anything else is a bug and keeps its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from vsp.escaping import one_line


class VspError(Exception):
    """Base of all errors that a user can fix. `details` are further lines, such as a list."""

    def __init__(self, message: str, details: Sequence[str] = ()) -> None:
        super().__init__(one_line(message))
        self.details = tuple(map(one_line, details))


class ConfigError(VspError):
    """An option or a configuration file cannot be used."""


class DatasetError(VspError):
    """A dataset folder cannot be used."""


class ModelError(VspError):
    """A checkpoint cannot be found, read or used."""


class InputError(VspError):
    """The model cannot take this image or this prompt."""


class DiskError(VspError):
    """A file cannot be written: the disk is full, or the folder has no write permission."""


class StoreError(VspError):
    """The array on disk or one of its journals cannot be used."""


class RunError(VspError):
    """A run is missing, unfinished or changed, or its name is taken."""


class ProbeError(VspError, ValueError):
    """No probe can be fitted on these rows. Also a ValueError, as scikit-learn's tools expect."""


class EstimatorError(ProbeError):
    """An estimator of the user raised an error; `details` are its traceback."""


class SchedulerError(VspError):
    """The batch system refuses or does not answer."""
