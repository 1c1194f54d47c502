"""Keeps, compares and shows stored runs. Needs no framework and nothing else of Assay."""
