"""Judges numerical agreement. Works on NumPy arrays; knows no framework and no process."""
