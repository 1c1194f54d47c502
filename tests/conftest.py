"""Fixtures of Assay's own tests."""

import os
import sys

import pytest
from hypothesis import settings

from adapters.registry import Registry
from harness.pool import Pool, Settings
from tests.browser import CHROMIUM, FLAGS, MISSING

TOYS = (
    "backend sleeps hogs raises returns_nan segfaults wrong_epsilon needs_missing_package retraces "
    "falls_back out_of_memory caches temporary breaks_graph "
    "times_nothing remembers crashes_on_integers"
).split()

# a busy machine is no reason to fail: no test asserts how long it takes
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session", autouse=True)
def own_sessions():
    """A pytest that a test starts does not belong to the one that runs the test, and has none of
    its options."""
    with pytest.MonkeyPatch.context() as patch:
        theirs = ("PYTEST_XDIST", "PYTEST_ADDOPTS")
        for name in [name for name in os.environ if name.startswith(theirs)]:
            patch.delenv(name)
        yield


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


@pytest.fixture
def numpy_alone(tmp_path_factory, monkeypatch):
    """No framework can be imported in a child process: NumPy alone judges the toys, quickly."""
    folder = tmp_path_factory.mktemp("hidden")
    for name in ("torch", "tensorflow", "jax"):
        (folder / name).mkdir()
        error = f"raise ModuleNotFoundError('No module named {name}', name='{name}')"
        (folder / name / "__init__.py").write_text(error)
    monkeypatch.setenv("PYTHONPATH", str(folder))


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium; a test that needs it is skipped where there is none."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is missing: pip install playwright"
    )
    if not CHROMIUM:
        pytest.skip(MISSING)
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()
