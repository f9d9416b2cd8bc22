"""Importers: annotations of real datasets become rows."""
