"""What a failure leaves to be read: frames of the traceback, and the worker's log."""

import dataclasses

import pytest

from harness import logs
from harness.client import WorkerFailure
from harness.pool import Pool, Role
from results.records import Case

CASE = Case("conformance", "infer", "mlp", "tiny", "raises", "cpu", "fp64", 4)


@pytest.fixture
def kept(toys, tmp_path):
    """A pool of toys that keeps logs."""
    pool = Pool(dataclasses.replace(toys.settings, logs=tmp_path / "run" / "logs"))
    yield pool
    pool.close_all()


def failure(pool, adapter):
    with pytest.raises(WorkerFailure) as caught:
        client, _ = pool.build(CASE, Role(adapter, "judge"), timeout=20)
        client.request("first_call", timeout=20)
    return caught.value


def test_an_exception_shows_where_it_was_raised_and_its_log_is_kept(kept):
    found = failure(kept, "raises")
    first, *rest, last = found.reason.splitlines()
    assert first == "RuntimeError: the toy <b>kernel</b> refused"
    assert rest[-1].startswith("  tests/toys/raises.py:")
    assert "in build: raise RuntimeError" in rest[-1]
    assert last.startswith("log: logs/raises-judge-")
    log = kept.settings.logs.parent / last.removeprefix("log: ")
    assert "Traceback (most recent call last)" in log.read_text()


def test_a_crash_keeps_its_log_and_what_is_unsupported_does_not(kept):
    found = failure(kept, "segfaults")
    last = found.reason.splitlines()[-1]
    log = kept.settings.logs.parent / last.removeprefix("log: ")
    assert "about to read address 0" in log.read_text()
    missing = failure(kept, "needs_missing_package")
    assert missing.status == "unsupported"
    assert "log" not in missing.reason
    assert [path.name for path in kept.settings.logs.iterdir()] == [log.name]


def test_a_log_without_end_is_kept_without_its_middle(tmp_path):
    log = tmp_path / "log"
    log.write_bytes(b"begin" + b"." * 2**22 + b"end")
    assert logs.keep(log, tmp_path / "run" / "logs") == "logs/log"
    text = (tmp_path / "run" / "logs" / "log").read_bytes()
    assert text.startswith(b"begin")
    assert text.endswith(b"end")
    assert b"bytes are left out here" in text
    assert len(text) < 300_000


def test_a_log_that_cannot_be_kept_hides_no_reason(tmp_path):
    (tmp_path / "log").write_text("said")
    (tmp_path / "logs").write_text("a file is in the way")
    assert logs.keep(tmp_path / "log", tmp_path / "logs") == ""
