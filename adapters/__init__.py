"""The frameworks, and the models they all run."""
