"""Mixed precision: which dtype an operation gets and gives, and what proves it."""

from dataclasses import dataclass

import numpy as np
import pytest

from adapters import policy
from adapters.numpy_reference import NumpyOps
from adapters.ops import NAMES, Ops
from adapters.policy import PolicyOps, computing_low, declared, unchanged
from adapters.precisions import PRECISIONS
from harness import proof
from results.records import Case

DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True)
class Typed:
    """A tensor of which only shape and dtype are known."""

    shape: tuple[int, ...]
    dtype: str


class TypedOps(Ops):
    """Operations that refuse any floating-point dtype but their own."""

    def __init__(self, dtype):
        self._dtype = dtype

    def dtype_of(self, x):
        return x.dtype

    def cast(self, x, dtype):
        return Typed(x.shape, dtype)

    def constant(self, value):
        return Typed(np.shape(value), self._dtype)

    def _all(self, *xs):
        assert {x.dtype for x in xs if x.dtype in policy.FLOATS} <= {self._dtype}
        return Typed(xs[0].shape, self._dtype)

    def dense(self, x, w, b=None):
        return self._all(x, w)

    def add(self, a, b):
        return self._all(a, b)

    def relu(self, x):
        return self._all(x)

    def concat(self, xs, *, axis):
        return self._all(*xs)

    def mean(self, x, *, axis):
        return self._all(x)

    def layer_norm(self, x, scale, offset, *, epsilon):
        return self._all(x, scale, offset)

    def batch_norm(self, x, scale, offset, mean, var, *, train, momentum, epsilon):
        return self._all(x, scale, offset, mean, var), self._all(mean), self._all(var)

    def cross_entropy(self, logits, labels, *, weights=None, smoothing=0.0, ignore=None):
        return self._all(logits)

    def embedding(self, table, ids, *, padding_index=None):
        return self._all(table)

    def scan(self, body, state, xs):
        new = body(state, xs)
        assert [s.dtype for s in new] == [s.dtype for s in state]
        return new

    def cond(self, predicate, true, false, *operands):
        a, b = true(*operands), false(*operands)
        assert a.dtype == b.dtype
        return a


def ops(kinds=declared):
    return PolicyOps(TypedOps("float32"), TypedOps("bfloat16"), kinds, DTYPES)


WIDE, NARROW, SCALAR = Typed((2, 3), "float32"), Typed((2, 3), "bfloat16"), Typed((), "float32")
IDS = Typed((2,), "int64")


def test_a_contraction_runs_low_whatever_comes():
    assert ops().dense(WIDE, WIDE).dtype == "bfloat16"
    assert ops().dense(NARROW, WIDE, WIDE).dtype == "bfloat16"


def test_what_is_sensitive_runs_full():
    assert ops().cross_entropy(NARROW, IDS).dtype == "float32"
    assert ops().mean(NARROW, axis=0).dtype == "float32"


def test_a_normalisation_computes_full_and_gives_back_what_it_got():
    assert ops().layer_norm(NARROW, WIDE, WIDE, epsilon=0.1).dtype == "bfloat16"
    assert ops().layer_norm(WIDE, WIDE, WIDE, epsilon=0.1).dtype == "float32"
    y, *running = ops().batch_norm(
        NARROW, *[WIDE] * 4, train=True, momentum=0.1, epsilon=0.1
    )  # fmt: skip
    assert y.dtype == "bfloat16"
    assert {r.dtype for r in running} == {"float32"}


def test_everything_else_follows_the_widest_tensor():
    assert ops().relu(NARROW).dtype == "bfloat16"
    assert ops().add(NARROW, NARROW).dtype == "bfloat16"
    assert ops().add(NARROW, WIDE).dtype == "float32"
    assert ops().concat([WIDE, NARROW], axis=0).dtype == "float32"
    assert ops().embedding(WIDE, IDS).dtype == "float32"


def test_a_tensor_of_rank_zero_counts_only_alone():
    assert ops().add(NARROW, SCALAR).dtype == "bfloat16"
    assert ops().add(SCALAR, SCALAR).dtype == "float32"


def test_what_a_loop_carries_keeps_its_dtype():
    own = ops()
    state = own.scan(lambda s, x: (own.dense(s[0], x), own.relu(s[1])), (WIDE, NARROW), WIDE)
    assert [s.dtype for s in state] == ["float32", "bfloat16"]


def test_both_branches_give_one_dtype():
    own = ops()
    assert own.cond(IDS, lambda x: own.dense(x, x), own.relu, WIDE).dtype == "float32"


def test_the_results_are_told_by_operation():
    own = ops()
    own.dense(WIDE, WIDE)
    own.relu(NARROW)
    own.relu(WIDE)
    assert policy.results(own) == {"dense": ["bfloat16"], "relu": ["bfloat16", "float32"]}
    assert policy.results(TypedOps("float32")) is None


def test_keras_and_flax_compute_low_but_for_statistics_and_losses():
    own = ops(computing_low)
    assert own.add(WIDE, WIDE).dtype == "bfloat16"
    assert own.mean(WIDE, axis=0).dtype == "bfloat16"
    assert own.cross_entropy(NARROW, IDS).dtype == "float32"
    assert own.layer_norm(NARROW, WIDE, WIDE, epsilon=0.1).dtype == "bfloat16"


def test_without_a_policy_nothing_is_cast():
    with pytest.raises(AssertionError):
        ops(unchanged).dense(NARROW, WIDE)
    assert ops(unchanged).dense(WIDE, WIDE).dtype == "float32"


def test_policies_name_operations_of_the_vocabulary():
    named = policy.CONTRACTIONS | policy.NORMS | policy.LOSSES | policy.SENSITIVE
    assert named <= set(NAMES)


def test_numpy_rounds_to_nearest_with_ties_to_even():
    x = 1 + 2.0**-7 * np.array([0.5, 1.5, 0.75, 0.25])
    expected = 1 + 2.0**-7 * np.array([0, 2, 1, 0])
    np.testing.assert_array_equal(NumpyOps().cast(x, "bfloat16"), expected)
    assert NumpyOps().cast(np.array(65520.0), "float16") == np.inf


# -- proof -----------------------------------------------------------------------------------------


def facts(**changes):
    own = {
        "parameter_dtypes": ["float32"], "output_dtype": "bfloat16", "device_kind": "cpu",
        "threads": 1, "policy": {"dense": ["bfloat16"], "cross_entropy": ["float32"]},
    }  # fmt: skip
    return {**own, **changes}


def problems(precision, **changes):
    case = Case("precision", "train", "mlp", "tiny", "a", "cpu", precision, batch=1)
    return proof.fallbacks(case, facts(**changes), threads=1)


def test_a_program_that_keeps_the_policy_passes():
    assert problems("amp_bf16") == []
    assert problems("amp_bf16_native") == []


@pytest.mark.parametrize(
    ("precision", "changes", "told"),
    [
        ("amp_bf16", {"policy": {"dense": ["float32"]}}, "dense gave float32, but should give bf"),
        (
            "amp_bf16",
            {"policy": {"dense": ["bfloat16", "float32"]}},
            "dense gave bfloat16, float32",
        ),
        ("amp_bf16", {"policy": {"dense": ["bfloat16"], "softmax": ["bfloat16"]}}, "softmax gave"),
        ("amp_bf16", {"policy": {"relu": ["bfloat16"]}}, "no contraction was bfloat16"),
        ("amp_bf16", {"policy": None}, "no contraction was bfloat16"),
        ("amp_fp16", {}, "dense gave bfloat16, but should give float16"),
        ("amp_bf16", {"parameter_dtypes": ["bfloat16"]}, "parameters are bfloat16"),
        ("amp_bf16_native", {"policy": {"dense": ["float32"]}}, "no contraction was bfloat16"),
        ("bf16", {}, "parameters are float32, but should be bfloat16"),
    ],
)
def test_a_silent_float32_is_a_failure(precision, changes, told):
    assert any(told in line for line in problems(precision, **changes))


def test_only_float16_scales_its_loss():
    assert [n for n, p in PRECISIONS.items() if p.scaled] == ["amp_fp16", "amp_fp16_native"]
