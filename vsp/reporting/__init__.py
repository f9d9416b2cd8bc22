"""Pages, tables and plots: reads files of runs, results and datasets; computes nothing."""
