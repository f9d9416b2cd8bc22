"""`python -m vsp`: what an array task runs, so that it needs no console script on its path."""

from vsp.cli.main import console

if __name__ == "__main__":
    console()
