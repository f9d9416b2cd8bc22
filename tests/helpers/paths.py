"""Where the checkout and its parts lie."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
