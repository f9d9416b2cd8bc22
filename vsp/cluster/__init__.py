"""Batch systems: jobs, what was sent, and what became of it."""
