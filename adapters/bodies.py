"""Small computations that are more than one operation, each a function (ops, tensors...)."""

from __future__ import annotations
