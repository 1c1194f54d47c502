"""The judge, each of its verdicts provoked."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from adapters import model as models
from adapters import training
from adapters.exercise import Call
from adapters.numpy_optimizers import Optimizer, clip
from adapters.numpy_reference import NumpyOps
from harness.lanes import steps
from harness.verdicts import divergence
from numerics import examination, floor, judge, reference
from numerics.errors import normwise
from numerics.exercises import Exercise
from numerics.judge import Reference
from numerics.oracle import consensus
from results.records import Case

arrays = hnp.arrays(np.float64, (5,), elements=st.floats(-100, 100))
X = np.array([3.0, 4.0])


# -- errors ------------------------------------------------------------------------------------


def test_normwise_error_is_relative_to_the_reference():
    assert normwise(np.array([3.0, 4.5]), X) == pytest.approx(0.1)


@given(arrays)
def test_equal_tensors_have_no_error(x):
    assert normwise(x, x) == 0


@given(arrays.filter(lambda x: np.linalg.norm(x) > 1e-3), st.floats(0.1, 1000))
def test_normwise_error_does_not_depend_on_scale(x, scale):
    assert normwise(2 * x * scale, x * scale) == pytest.approx(1.0)


def test_normwise_error_is_infinite_where_nothing_can_be_compared():
    assert normwise(np.ones(3), np.ones(4)) == math.inf
    assert normwise(np.array([1.0, np.nan]), np.ones(2)) == math.inf
    assert normwise(np.array([1.0, np.inf]), np.array([1.0, -np.inf])) == math.inf
    assert normwise(np.ones(2), np.zeros(2)) == math.inf
    assert normwise(np.array([np.nan, 1.0]), np.array([np.nan, 1.0])) == 0


# -- verdicts ----------------------------------------------------------------------------------


def only(judgements):
    (judgement,) = judgements
    return judgement


def one(value, against, floors=None):
    return only(
        judge.identity({"output": value}, Reference({"output": against}, "r", floors or {}))
    )


def ratio(value, against, floors):
    found = Reference({"gradient:w": against}, "r", floors)
    return only(judge.precision({"gradient:w": value}, found, "fp32"))


def test_identity_gate_at_its_edge():
    assert one(X * (1 + 0.9e-10), X).verdict == "identical"
    assert one(X * (1 + 1.1e-10), X).verdict == "divergent"
    assert one(X * np.nan, X).verdict == "divergent"
    assert one(X[:1], X).verdict == "divergent"


def test_identity_allows_what_rounding_alone_makes():
    """A floor of 1e-2 at 24 bits is one of 1.9e-11 at 53, and 20 times that is above 1e-10."""
    assert one(X * (1 + 3e-10), X, {"output": 1e-2}).verdict == "identical"
    found = one(X * (1 + 4e-10), X, {"output": 1e-2})
    assert found.verdict == "divergent"
    assert found.ratio == pytest.approx(4e-10 / (1e-2 * 2.0**-29), rel=1e-3)


def test_a_reference_that_is_unusable_is_mistrusted():
    for bad in (np.array([np.nan, 1.0]), np.array([]), np.zeros(2), np.ones(2), np.zeros(())):
        assert one(X, bad).verdict == "mistrusted"
    assert one(np.ones(()), np.ones(())).verdict == "identical"  # a scalar is no constant
    missing = only(judge.identity({"loss": X}, Reference({}, "r", {})))
    assert (missing.verdict, missing.reason) == ("mistrusted", "no reference has this tensor")


@pytest.mark.parametrize(
    ("factor", "verdict"),
    [
        (0, "bitwise"),
        (3.9, "rounding-equal"),
        (4.1, "precision-equal"),
        (19.9, "precision-equal"),
        (20.1, "divergent"),
    ],
)
def test_verdicts_by_ratio(factor, verdict):
    found = ratio(X * (1 + factor * 1e-5), X, {"gradient:w": 1e-5})
    assert found.verdict == verdict
    assert found.ratio == pytest.approx(factor, rel=1e-6)


def test_the_floor_is_never_below_one_unit_roundoff():
    assert ratio(X, X, {"gradient:w": 1e-12}).floor == 2.0**-24
    assert Reference({}, "", {"t": 1e-6}).floor("t", "fp64") == pytest.approx(1e-6 * 2.0**-29)
    assert Reference({}, "", {"t": 1e-12}).floor("t", "fp64") == 2.0**-53


def test_a_gradient_that_is_noise_is_null_and_so_is_its_update():
    noise = np.array([1e-17, -2e-17])
    floors = {"gradient:w": 1e9, "update@1:w": 1.0}
    found = Reference({"gradient:w": noise, "update@1:w": noise}, "r", floors)
    tensors = {"gradient:w": -noise, "update@1:w": -noise}
    for verdicts in (judge.identity(tensors, found), judge.precision(tensors, found, "fp32")):
        assert [j.verdict for j in verdicts] == ["null-gradient"] * 2


def test_a_null_gradient_is_no_larger_than_rounding_makes_it():
    noise = np.array([1e-17, -2e-17])
    found = Reference({"gradient:w": noise}, "r", {"gradient:w": 1e9})
    for tensors, verdict in (
        ({"gradient:w": 30 * noise}, "null-gradient"),
        ({"gradient:w": X}, "divergent"),
    ):
        row = only(judge.identity(tensors, found))
        assert row.verdict == verdict
    huge = only(judge.precision({"gradient:w": 1e6 * X}, found, "fp32"))
    assert huge.verdict == "divergent"
    assert "times as large as rounding makes it" in huge.reason
    assert only(judge.precision({"gradient:w": 1e-9 * X}, found, "fp32")).verdict == "null-gradient"


def test_an_error_of_100_percent_is_within_no_floor():
    floors = {"gradient:w": 0.09}  # 20 times that is 180%
    assert ratio(0 * X, X, floors).verdict == "divergent"
    assert ratio(-X, X, floors).verdict == "divergent"
    assert ratio(0.51 * X, X, floors).verdict == "precision-equal"
    assert judge.verdict_of(1.0, judge.CAP) == "divergent"
    told = divergence([ratio(0 * X, X, floors)], [], where="")
    assert "normwise error 1.00e+00, but should be below 0.5, whatever the noise floor" in told
    exact = Exercise("relu", "usual", Call("relu"), {"x": X})
    coarse = examination.results(
        exact, {"output": 0 * X.astype(np.float32)}, {"output": X}, {"output": 0.2}, "fp32"
    )
    assert only(coarse).verdict == "divergent"


def test_nan_is_never_a_null_gradient():
    found = Reference({"gradient:w": X * 1e-17}, "r", {"gradient:w": 1e9})
    for verdicts in (
        judge.identity({"gradient:w": X * np.nan}, found),
        judge.precision({"gradient:w": X * np.nan}, found, "fp32"),
    ):
        assert only(verdicts).verdict == "divergent"


def test_the_worst_judgement_is_divergent_first():
    rows = [one(X, X), one(2 * X, X), one(X, np.array([])), one(X * (1 + 1e-12), X)]
    assert judge.worst(rows) is rows[1]
    assert judge.worst([rows[0], rows[3]]) is rows[3]
    assert judge.worst([]) is None


def test_what_nobody_judged_is_said():
    rows = [one(X, X)]
    found = judge.unreferenced({"output": X, "update@10:w": X}, rows)
    assert [(j.quantity, j.tensor, j.verdict) for j in found] == [
        ("update@10", "w", "unreferenced")
    ]


# -- floors ------------------------------------------------------------------------------------


def test_the_floor_is_the_root_mean_square_of_the_disturbed_runs():
    clean = {"output": X}
    noisy = [{"output": X * 1.03}, {"output": X * 0.96}]
    wanted = math.sqrt((0.03**2 + 0.04**2) / 2)
    assert floor.measure(clean, noisy, {})["output"] == pytest.approx(wanted)


@pytest.mark.parametrize(("equal_steps", "least", "most"), [(False, 0.5, 1.5), (True, 2.5, 3.5)])
def test_storing_a_parameter_has_a_floor_of_its_own(equal_steps, least, most):
    """Float32 additions of small steps to parameters near 1, against the formula. Equal steps make
    equal errors, which add up to sqrt(10) times those of independent ones."""
    rng = np.random.default_rng(0)
    start = 1 + 0.1 * rng.random(10_000)
    steps = 1e-3 * rng.normal(size=(1 if equal_steps else 10, 10_000)) * np.ones((10, 1))
    parameter = start.astype(np.float32)
    for step in steps:
        parameter = parameter + step.astype(np.float32)
    exact, moved = steps.sum(0), parameter.astype(np.float64) - start.astype(np.float32)
    found = floor.measure({"update@10:w": exact}, [{"update@10:w": exact}], {"w": start})
    assert least < normwise(moved, exact) / found["update@10:w"] < most


# -- consensus ---------------------------------------------------------------------------------


def test_consensus_is_the_median_of_those_that_agree():
    members = {"a": {"output": X}, "b": {"output": X * (1 + 1e-13)}, "c": {"output": X}}
    found = consensus(members, {})
    assert found.reference is not None
    assert found.reference.name == "median of a, b, c in float64"
    np.testing.assert_array_equal(found.reference.tensors["output"], X)


def test_the_odd_one_out_is_named_and_left_out():
    members = {"a": {"output": X}, "b": {"output": 2 * X}, "c": {"output": X}}
    found = consensus(members, {})
    assert found.reference is not None
    assert found.reference.name.startswith("median of a, c in float64; without b (output output")
    assert list(found.odd) == ["b"]
    assert "output" in found.odd["b"]


def test_two_that_disagree_are_no_oracle():
    found = consensus({"a": {"output": X}, "b": {"output": 2 * X}}, {})
    assert found.reference is None
    assert "a and b differ in output output by 5.0e-01" in found.problem


def test_a_member_that_numpy_contradicts_does_not_count():
    members = {"a": {"output": X}, "b": {"output": 2 * X}}
    found = consensus(members, {}, {"b": "output differs from numpy"})
    assert found.reference is not None
    assert found.reference.name == "a in float64; without b (output differs from numpy)"


def test_nobody_is_no_oracle():
    assert consensus({}, {}).reference is None
    assert "a: broken" in consensus({"a": {"output": X}}, {}, {"a": "broken"}).problem


# -- NumPy's own reference ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def vit():
    """Parameters, NumPy's reference, and tensors with a gradient by central differences."""
    model = models.get("vit")
    config = model.sizes["tiny"]
    params, buffers = model.initial(config, np.random.default_rng(0))
    batch = model.example(config, 2)
    return (
        params,
        reference.compute("vit", "tiny", "train", params, buffers, {"batch": batch}),
        batch,
    )


def test_a_right_gradient_has_numpy_s_slopes_and_a_wrong_one_does_not(vit):
    params, found, batch = vit
    model, ops = models.get("vit"), NumpyOps()

    def loss(bias):
        p = {**params, "head/b": bias}
        output, _ = model.forward(ops, p, batch["x"], config=model.sizes["tiny"], train=True)
        return ops.cross_entropy(output, batch["y"])

    steps = 1e-30j * np.eye(10)
    gradient = np.array([np.imag(loss(params["head/b"] + s)) for s in steps]) / 1e-30
    slope = found.slopes["head/b",]
    assert reference.slope_error({"head/b": gradient}, slope) < 1e-13
    wrong = gradient * np.where(np.arange(10) == 3, 1 + 1e-8, 1)
    assert reference.slope_error({"head/b": wrong}, slope) > judge.IDENTITY
    assert reference.slope_error({"head/b": gradient * np.nan}, 1.0) == math.inf
    assert reference.slope_error({"head/b": gradient * 0}, 1.0) == math.inf


def test_a_batch_in_micro_batches_is_the_mean_of_them_one_after_the_other():
    """Batch normalisation sees a micro-batch, and hands its statistics to the next."""
    model, config = models.get("convnet"), models.get("convnet").sizes["tiny"]
    params, buffers = model.initial(config, np.random.default_rng(0))
    batch = model.example(config, 4)
    halves = [{name: value[i : i + 2] for name, value in batch.items()} for i in (0, 2)]
    recipe = "sgd_accumulation"
    whole = reference.compute(
        "convnet", "tiny", "train", params, buffers, {"batch": batch}, recipe=recipe
    )
    first = reference.compute("convnet", "tiny", "train", params, buffers, {"batch": halves[0]})
    handed = {name: first.tensors[f"buffer@1:{name}"] for name in buffers}
    second = reference.compute("convnet", "tiny", "train", params, handed, {"batch": halves[1]})
    for name in buffers:
        np.testing.assert_array_equal(
            whole.tensors[f"buffer@1:{name}"], second.tensors[f"buffer@1:{name}"]
        )
    parts = first.tensors, second.tensors
    assert whole.tensors["loss"] == pytest.approx(np.mean([part["loss"] for part in parts]))
    np.testing.assert_array_equal(
        whole.tensors["output"], np.concatenate([part["output"] for part in parts])
    )
    for group, slope in whole.slopes.items():
        assert slope == pytest.approx((first.slopes[group] + second.slopes[group]) / 2)


def test_slopes_of_a_group_are_those_of_its_parameters_together(vit, monkeypatch):
    params, found, batch = vit
    monkeypatch.setattr(reference, "PER_PARAMETER", 10)
    together = reference.compute("vit", "tiny", "train", params, {}, {"batch": batch})
    ((group, slope),) = together.slopes.items()
    assert group == tuple(params)
    assert slope == pytest.approx(sum(found.slopes.values()), rel=1e-12)


@pytest.mark.parametrize("recipe", training.RECIPES)
def test_the_first_update_is_the_formula_s(recipe, vit):
    params, _, _ = vit
    rng = np.random.default_rng(0)
    tensors = {f"gradient:{name}": rng.normal(size=v.shape) for name, v in params.items()}
    updates = reference.update_from(recipe, params, tensors)
    rule, g, p = training.RECIPES[recipe], tensors["gradient:head/w"], params["head/w"]
    norm = math.sqrt(sum(float((g**2).sum()) for g in tensors.values()))
    if rule.clip_norm:
        g = g * min(1.0, rule.clip_norm / norm)
    if rule.clip_value:
        g = np.minimum(np.maximum(g, -rule.clip_value), rule.clip_value)
    decays = {kind: rule.weight_decay * p * (rule.decay == kind) for kind in DECAYS}
    g = g + decays["coupled"]
    first = {"sgd_warmup_cosine": 1 / 5, "adamw_warmup": 1 / 5}.get(recipe, 1.0)
    wanted = -rule.learning_rate * first * (first_direction(rule, g) + decays["decoupled"])
    np.testing.assert_allclose(updates["update@1:head/w"], wanted, rtol=1e-12)


DECAYS = ("coupled", "decoupled")


def first_direction(rule, g):
    """What the formulas come to at t = 1, where corrected moments are g and g^2."""
    if rule.optimizer == "sgd":
        return g * (1 + rule.momentum * rule.nesterov)
    if rule.optimizer == "adagrad":
        return g / (np.sqrt(rule.initial_accumulator + g**2) + rule.epsilon)
    if rule.optimizer == "rmsprop":
        return g / (math.sqrt(0.01) * abs(g) + rule.epsilon)
    if rule.optimizer == "nadam":
        mu1, mu2 = (0.9 * (1 - 0.5 * 0.96 ** (t * 0.004)) for t in (1, 2))
        g, scale = g * (1 + mu2 * 0.1 / (1 - mu1 * mu2)), abs(g)
        return g / (scale + rule.epsilon)
    return g / (abs(g) + rule.epsilon)


def test_clipping_leaves_small_gradients_alone_and_bounds_large_ones():
    by_norm = training.Recipe("sgd", 1.0, clip_norm=1.0)
    small = {"a": np.array([0.1]), "b": np.array([0.2])}
    assert clip(by_norm, small) == small
    clipped = clip(by_norm, {"a": np.array([30.0]), "b": np.array([40.0])})
    assert clipped["a"] == pytest.approx(0.6)
    assert clipped["b"] == pytest.approx(0.8)
    assert clip(by_norm, {"a": np.zeros(2)})["a"].tolist() == [0, 0]
    by_value = training.Recipe("sgd", 1.0, clip_value=1.0)
    assert clip(by_value, {"a": np.array([-3.0, 0.5])})["a"].tolist() == [-1, 0.5]


def test_momentum_that_is_lost_after_100_steps_shows_after_300():
    """On the trajectory of a quadratic, by the formulas in NumPy."""
    recipe = training.RECIPES["sgd_momentum"]
    start, slope = {"w": X}, np.array([1.0, 0.3])

    def trajectory(lost):
        p, optimizer, seen = dict(start), Optimizer(recipe), {}
        for step in range(1, 301):
            if step > lost:
                optimizer = Optimizer(recipe)
            update = optimizer.update(p, {"w": slope * p["w"]})
            p = {"w": p["w"] + update["w"]}
            seen[f"update@{step}:w"] = p["w"] - X
        return seen

    case = Case("conformance", "train", "mlp", "tiny", "any", "cpu", "fp64", 8, "sgd_momentum")
    right, wrong = trajectory(math.inf), trajectory(100)
    verdicts = {
        step: one_of(wrong[name], right[name])
        for step in steps(case)
        if (name := f"update@{step}:w")
    }
    assert verdicts == {1: "identical", 10: "identical", 100: "identical", 300: "divergent"}
    assert steps(dataclasses.replace(case, precision="fp32")) == (1, 10, 100)


def one_of(value, wanted):
    return only(
        judge.identity({"update:w": value}, Reference({"update:w": wanted}, "", {}))
    ).verdict
