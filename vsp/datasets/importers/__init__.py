"""Importers read the annotations of real datasets."""
