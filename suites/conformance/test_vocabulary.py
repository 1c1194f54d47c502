"""Every adapter has the vocabulary's operations, with the vocabulary's parameters."""

import pytest

from harness.client import WorkerFailure


def test_operations(adapter, runner):
    try:
        found = runner.contract(adapter)
    except WorkerFailure as failure:
        if failure.status == "unsupported":
            pytest.skip(failure.reason)
        pytest.fail(str(failure), pytrace=False)
    assert not found["misshapen"], "; ".join(found["misshapen"])
    if found["missing"]:
        pytest.skip(f"{adapter} leaves out: {', '.join(found['missing'])}")
