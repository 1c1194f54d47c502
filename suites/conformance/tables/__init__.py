"""The exercises of the vocabulary's operations, a module for each family of them."""
