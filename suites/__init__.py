"""What is checked and measured: `conformance` and `performance`."""
