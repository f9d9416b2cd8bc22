"""Names that the command line offers; this module imports no library."""

ERASURES = ("leace", "inlp", "random")
TREATMENTS = ("none", "center", "standardize", "unit-norm")
METRIC_NAMES = ("accuracy", "balanced", "auc", "log-loss")  # of vsp.evaluation.metrics
SPLIT_BY = ("image", "pairs", "names")  # of vsp.evaluation.held_out
