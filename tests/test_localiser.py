"""A wrong operation of a real model is named, in a worker, against another framework."""

import importlib.util
import sys

import pytest

from adapters.registry import Registry
from harness import localiser
from harness.pool import Pool, Role, Settings
from results.records import Case

CASE = Case("conformance", "infer", "vit", "tiny", "wrong_epsilon", "cpu", "fp64", 2)


@pytest.fixture
def pool(tmp_path):
    names = ("backend", "wrong_epsilon")
    modules = {name: f"tests.toys.{name}" for name in names}
    made = Pool(
        Settings(
            registry=Registry({**modules, "torch_eager": "adapters.torch_eager"}),
            python=sys.executable,
            scratch=tmp_path,
            threads=1,
            case_timeout=120.0,
            memory_limit=2**33,
        )
    )
    yield made
    made.close_all()


def localised(pool, adapter):
    def client(name):
        return pool.client(Role(name, "judge"))

    return localiser.localise(pool, CASE, client(adapter), lambda: client("torch_eager"))


@pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="needs another framework: torch")
def test_the_first_wrong_operation_is_named_and_a_right_model_has_none(pool):
    assert "layer_norm: " in localised(pool, "wrong_epsilon")
    assert localised(pool, "wrong_epsilon").startswith("operation ")
    assert localised(pool, "backend").startswith("none: forward and backward pass are right")
