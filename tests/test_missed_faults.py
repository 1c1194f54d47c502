"""Faults that the judge of operations once missed: each is planted in NumPy's own vocabulary, which
is right otherwise, and some row of the table has to come out divergent."""

import functools

import mpmath
import numpy as np
import pytest

from adapters.numpy_reference import NumpyOps
from numerics import examination, ulp
from numerics.exercises import expected
from suites.conformance import autodiff
from suites.conformance.operations import exercises

OPERATIONS = sorted({exercise.subject for exercise in exercises()})


class Planted(NumpyOps):
    """`change(sound, *arguments, **keywords)` in place of the operation `name`."""

    def __init__(self, name, change):
        sound = getattr(NumpyOps(), name)
        setattr(self, name, lambda *args, **keywords: change(sound, *args, **keywords))


@functools.cache
def asked(subject, precision):
    """What the table asks about an operation, and what should come of it."""
    own = [e for e in exercises() if e.subject == subject and precision in e.precisions]
    return [(e, expected(e)) for e in (e.at(precision) for e in own)]


def verdicts(ops, subject, precision="fp64", *, only=""):
    """Verdicts by label of what the table asks about an operation, in exercises whose name has
    `only` in it."""
    found = {}
    for exercise, reference in asked(subject, precision):
        if only in exercise.name:
            own = {n: as_told(v, precision) for n, v in expected(exercise, ops).items()}
            for row in examination.results(exercise, own, reference, {}, precision):
                found[f"{row.quantity} {row.tensor}"] = row.verdict
    return found


def as_told(value, precision):
    return value.astype(examination.DTYPES[precision]) if value.dtype.kind == "f" else value


def caught(ops, subject, precision="fp64", *, only=""):
    found = verdicts(ops, subject, precision, only=only)
    return {label for label, verdict in found.items() if verdict == "divergent"}


@pytest.mark.parametrize("precision", ["fp64", "fp32"])
def test_what_is_right_is_not_accused(precision):
    for subject in OPERATIONS:
        assert not caught(NumpyOps(), subject, precision), subject


# -- float64 that is float32 ---------------------------------------------------------------------

#: Operations in which nothing is a floating-point number, and the one that rounds by itself.
WITHOUT_FLOATS = {"floor_divide", "one_hot"}
ROUNDS_ITSELF = {"cast"}


def narrowed(x):
    """What is left of float64, or of complex numbers made of it, in float32."""
    if isinstance(x, list | tuple):
        return type(x)(narrowed(part) for part in x)
    if isinstance(x, np.ndarray) and x.dtype.kind in "fc":
        narrow = np.complex64 if x.dtype.kind == "c" else np.float32
        return x.astype(narrow).astype(x.dtype)
    return x


def in_float32(sound, *arguments, **keywords):
    given = {name: narrowed(value) for name, value in keywords.items()}
    with np.errstate(all="ignore"):
        return narrowed(sound(*map(narrowed, arguments), **given))


@pytest.mark.parametrize("subject", sorted(set(OPERATIONS) - WITHOUT_FLOATS - ROUNDS_ITSELF))
def test_float64_that_is_float32_is_caught_in_every_operation(subject):
    assert caught(Planted(subject, in_float32), subject)


# -- tails: small values beside large ones -------------------------------------------------------


def cut_below(least):
    def change(sound, x):
        return np.where(np.real(x) < least, 0 * x, sound(x))

    return change


def naive_tanh(sound, x):
    x = np.clip(np.real(x), -300, 300) + 1j * np.imag(x)
    up, down = np.exp(x), np.exp(-x)
    return (up - down) / (up + down)


def without_log1p(sound, x):
    return np.maximum(np.real(x), 0) + np.log(1 + np.exp(-np.abs(np.real(x))))


TAILS = {
    "exp that is 0 below -10": ("exp", cut_below(-10)),
    "exp that is 0 below -60": ("exp", cut_below(-60)),
    "sigmoid that is 0 below -20": ("sigmoid", cut_below(-20)),
    "silu that is 0 below -20": ("silu", cut_below(-20)),
    "tanh by its formula": ("tanh", naive_tanh),
    "tanh that is 1 above 8": ("tanh", lambda sound, x: np.where(abs(x) > 8, np.sign(x), sound(x))),
    "softplus without log1p": ("softplus", without_log1p),
    "sin of small angles is 0": ("sin", lambda sound, x: np.where(abs(x) < 1e-8, 0, sound(x))),
    "log of small numbers": ("log", lambda sound, x: sound(np.maximum(np.real(x), 1e-7))),
}


@pytest.mark.parametrize("fault", TAILS)
def test_a_wrong_tail_is_caught(fault):
    name, change = TAILS[fault]
    found = caught(Planted(name, change), name)
    assert any(label.startswith("output") for label in found)


@pytest.mark.parametrize("subject", ["exp", "sigmoid", "silu", "softplus"])
def test_a_tail_of_the_gradient_alone_is_caught(subject):
    def change(sound, x):
        y = sound(x)
        return np.where(np.real(x) < -20, np.real(y), y)  # without what moves it

    found = caught(Planted(subject, change), subject)
    assert found
    assert all(label.startswith("gradient") for label in found)


@pytest.mark.parametrize("precision", ["fp64", "fp32", "bf16", "fp16"])
def test_units_in_the_last_place(precision):
    bits, least = ulp.FORMATS[precision]
    wanted = np.array([1.0, 1.5, -2.0, 2.0**least])
    value = wanted + np.array([0, 3, 0, 0]) * 2.0 ** (1 - bits)
    assert ulp.farthest(value, wanted, precision) == (3.0, 1)
    assert ulp.farthest(np.array([0.0]), wanted[-1:], precision) == (2.0 ** (bits - 1), 0)
    flushed = np.array([2.0 ** (least - 1), np.nan, np.inf])
    assert ulp.farthest(0 * flushed[:1], flushed[:1], precision) == (0.0, 0)
    assert ulp.farthest(flushed[1:], flushed[1:], precision) == (0.0, 0)
    assert ulp.farthest(flushed[:0], flushed[:0], precision) == (0.0, 0)


def test_numpy_is_as_exact_as_the_bound_of_float64_says():
    """Against 160 bits, over arguments of all magnitudes."""
    mpmath.mp.prec = 160
    exact = {
        "exp": mpmath.exp, "log": mpmath.log, "sin": mpmath.sin, "cos": mpmath.cos,
        "tanh": mpmath.tanh, "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
        "silu": lambda x: x / (1 + mpmath.exp(-x)),
        "softplus": lambda x: mpmath.log1p(mpmath.exp(x)),
    }  # fmt: skip
    rng = np.random.default_rng(0)
    x = np.concatenate([10 ** rng.uniform(-10, 2, 200), -(10 ** rng.uniform(-10, 2, 200))])
    for name, function in exact.items():
        given = np.abs(x) if name == "log" else x
        found = getattr(NumpyOps(), name)(given)
        true = [function(mpmath.mpf(float(value))) for value in given]
        wanted = np.array([float(value) for value in true])
        rest = np.array([float(t - mpmath.mpf(w)) for t, w in zip(true, wanted, strict=True)])
        away = np.abs((found - wanted) - rest) / np.spacing(np.abs(wanted))
        assert away.max() <= ulp.REFERENCE, name


# -- layouts -------------------------------------------------------------------------------------


def dense(x):
    return np.asarray(x).flags.c_contiguous


LAYOUT_FAULTS = {
    "non-contiguous": lambda x: x.ndim > 1 and not dense(x) and 0 not in x.strides,
    "broadcast view": lambda x: 0 in x.strides and x.size > 1,
    "offset view": lambda x: dense(x) and x.base is not None and x.size != x.base.size,
    "gapped view": lambda x: bool(x.ndim) and x.strides[-1] == 2 * x.itemsize and x.shape[-1] > 1,
}


def on_views(is_such):
    """Reads the first element for all others where a tensor lies in memory as it should not."""

    def read(x):
        if isinstance(x, list | tuple):
            return type(x)(read(part) for part in x)
        wrong = isinstance(x, np.ndarray) and x.size > 1 and is_such(x)
        return np.roll(x, 1) + (x.dtype.kind == "f") if wrong else x

    def change(sound, *arguments, **keywords):
        given = {name: read(value) for name, value in keywords.items()}
        return sound(*map(read, arguments), **given)

    return change


@pytest.mark.parametrize("fault", LAYOUT_FAULTS)
def test_an_operation_that_is_wrong_on_views_is_caught(fault):
    internal = {"constant"}  # which is given no tensor
    missed = []
    for subject in sorted(set(OPERATIONS) - internal):
        if not caught(Planted(subject, on_views(LAYOUT_FAULTS[fault])), subject, only=fault):
            missed.append(subject)
    assert missed == []


# -- sizes ---------------------------------------------------------------------------------------


def last_examples_of_large_batches(sound, *arguments, **keywords):
    """From the 17th example on, the result is that of the first."""
    found = sound(*arguments, **keywords)
    if isinstance(found, tuple) or not np.ndim(found) or len(found) <= 16:
        return found
    return np.concatenate([found[:16], np.repeat(found[:1], len(found) - 16, axis=0)])


WITH_BATCHES = (
    "matmul dense conv2d conv_transpose2d conv3d conv_transpose3d attention sum mean variance "
    "softmax max_pool2d avg_pool2d resize rms_norm layer_norm group_norm"
)


@pytest.mark.parametrize("subject", WITH_BATCHES.split())
def test_a_batch_above_16_is_caught(subject):
    assert caught(Planted(subject, last_examples_of_large_batches), subject, only="batch of")


def unmasked_beyond_32(sound, q, k, v, *, mask=None, causal=False):
    right = sound(q, k, v, mask=mask, causal=causal)
    return np.concatenate([right[:, :32], sound(q, k, v, mask=mask)[:, 32:]], axis=1)


def frozen_from_the_ninth(sound, **given):
    every, *last = sound(**given)
    if every.shape[1] <= 8:
        return every, *last
    return np.concatenate([every[:, :8], 0 * every[:, 8:] + every[:, 7:8]], axis=1), *last


@pytest.mark.parametrize(
    ("subject", "change"),
    [
        ("attention", unmasked_beyond_32),
        ("lstm", frozen_from_the_ninth),
        ("gru", frozen_from_the_ninth),
    ],
)
def test_a_sequence_that_is_longer_than_a_few_positions_is_caught(subject, change):
    found = caught(
        Planted(subject, change), subject, only="64 steps" if subject != "attention" else "many"
    )
    assert {label.split()[0] for label in found} == {"output", "gradient"}


def test_a_scan_that_ends_early_is_caught():
    class Ends(NumpyOps):
        def scan(self, step, start, xs):
            return super().scan(step, start, xs[:32])

    for exercise in autodiff.exercises():
        if exercise.key == "through_loop/64 steps":
            own = expected(exercise, Ends())
            rows = examination.results(exercise, own, expected(exercise), {}, "fp64")
            assert {row.verdict for row in rows} == {"divergent"}
