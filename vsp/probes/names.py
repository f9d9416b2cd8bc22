"""Names that the command line offers; this module imports no library."""

TREATMENTS = ("none", "center", "standardize", "unit-norm")
DEFAULT_PROBE = "logistic"
