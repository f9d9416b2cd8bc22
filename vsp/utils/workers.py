"""Worker processes of joblib, whose output is escaped as that of the main process is."""

from __future__ import annotations

from joblib import Parallel

from vsp.utils.streams import escape_output


def worker_pool(n_jobs: int, return_as: str = "list") -> Parallel:
    """`joblib.Parallel` of `n_jobs` processes (1: this process). Returns results as `return_as` says."""
    return Parallel(n_jobs=n_jobs, return_as=return_as, initializer=escape_output)
