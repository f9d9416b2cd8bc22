"""Evaluation of probes: splits, fits of all layers, scores, statistics and comparison of runs."""
