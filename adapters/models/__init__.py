"""The models, one file each, over `adapters.ops`."""
