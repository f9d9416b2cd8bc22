"""Synthetic worlds: pictures of shapes, with labels that are true by construction."""
