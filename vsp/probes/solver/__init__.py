"""The solver of penalised logistic regression."""
