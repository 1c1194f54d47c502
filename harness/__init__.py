"""Runs each case in a process of its own, and measures there."""
