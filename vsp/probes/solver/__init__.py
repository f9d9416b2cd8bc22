"""The solver for L2-regularised logistic regression; `docs/solver.md` derives its formulas."""
