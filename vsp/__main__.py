"""Runs the command line. Array tasks call `python -m vsp`, which needs no script on the path."""

from vsp.cli.main import console

if __name__ == "__main__":
    console()
