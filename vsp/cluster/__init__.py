"""Batch systems: the jobs of a run, their submission, and their states.

A new batch system is a file with a class that follows `vsp.cluster.contract.Scheduler`, and a line
in this table.
"""

from __future__ import annotations

from vsp.utils.registry import Registry

SCHEDULERS = Registry(
    "scheduler",
    "vsp.schedulers",
    {
        "slurm": "vsp.cluster.slurm:Slurm",
        "local": "vsp.cluster.local:Local",
    },
)
