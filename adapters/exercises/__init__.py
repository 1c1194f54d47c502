"""Small computations over the vocabulary that are more than one operation, a file per suite."""
