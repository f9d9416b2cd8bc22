"""Runs the training: `python -m vsp.demo_training FOLDER`."""

from vsp.utils.import_path import leave_out_working_folder

if __name__ == "__main__":
    leave_out_working_folder()  # before anything else is imported
    from vsp.demo_training.command import main

    raise SystemExit(main())
