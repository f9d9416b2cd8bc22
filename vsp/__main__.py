# PYTHON_ARGCOMPLETE_OK - argcomplete looks for this line
"""The `vsp` command. Tasks call `python -P -m vsp`, which needs no script on the path."""

from vsp.utils.import_path import leave_out_working_folder


def start() -> None:
    """Leave the working folder out of the import path, then import and run the command line."""
    leave_out_working_folder()
    from vsp.cli.main import console

    console()


if __name__ == "__main__":
    start()
