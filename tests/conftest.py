"""Fixtures of Assay's own tests."""

import sys

import pytest

from adapters.registry import Registry
from harness.pool import Pool, Settings

TOYS = (
    "backend sleeps hogs raises returns_nan segfaults wrong_epsilon needs_missing_package retraces "
    "falls_back out_of_memory caches temporary"
).split()


@pytest.fixture
def toys(tmp_path):
    """A pool of toy backends, with little time and little memory. They are the only adapters, so
    there is no oracle."""
    modules = {name: f"tests.toys.{name}" for name in TOYS}
    pool = Pool(
        Settings(
            registry=Registry(modules),
            python=sys.executable,
            scratch=tmp_path,
            threads=1,
            case_timeout=20.0,
            memory_limit=2**29,
        )
    )
    yield pool
    pool.close_all()
