"""Charts: bars and curves as plotly figures, and the panels that put one beside its table."""
