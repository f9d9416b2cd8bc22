"""Erasers: affine maps that take what a linear probe reads out of states."""
