"""A run on disk: its plan, its rows, its array, its journals and its results."""
