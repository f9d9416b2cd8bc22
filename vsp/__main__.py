"""Runs the command line. Tasks call `python -P -m vsp`, which needs no script on the path."""

from vsp.cli.main import console

if __name__ == "__main__":
    console()
