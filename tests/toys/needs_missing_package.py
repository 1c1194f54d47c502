"""A backend whose framework is not installed."""

import a_framework_that_nobody_has  # noqa: F401  # the point of this file

from tests.toys.backend import Adapter

__all__ = ["Adapter"]
