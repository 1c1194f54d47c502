"""Another framework that does the same as `trains`."""

from tests.toys.trains import Adapter

__all__ = ["Adapter"]
