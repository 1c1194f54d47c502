"""How good Assay's own numbers are: each module measures one promise and prints a table.

`python -m benchmarks.bias`, `.repeatability`, `.memory`. The figures are in docs/measurement.md.
"""
