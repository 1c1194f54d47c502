"""Derived figures are those of their formulas, and never come from what may not be shown."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from results import frame
from results.derived import break_even
from results.metrics import DERIVED, METRICS
from results.records import Agreement, Case, Facts, Limit, Measurement, Outcome
from results.store import Run

JIT = Case("performance", "train", "vit", "small", "jax_jit", "cpu", "fp32", 8)
EAGER = replace(JIT, adapter="torch_eager")
START = {"import_time": 2.0, "build_time": 1.0}
COMPILED = START | {"first_call_time": 12.0, "trace_time": 3.0, "compile_time": 8.0}
LIMITS = (
    Limit("matmul_fp32", "FLOP/s", 4e11, "a", "cpu", 2, "2026"),
    Limit("matmul_fp32", "FLOP/s", 3e11, "b", "cpu", 2, "2026"),
    Limit("bandwidth", "B/s", 2e10, "a", "cpu", 2, "2026"),
    Limit("matmul_fp32", "FLOP/s", 9e13, "a", "cuda", 2, "2026"),
    Limit("bandwidth", "B/s", 3e12, "a", "cuda", 2, "2026"),
)


def records(case, figures, *, status="ok", verdict="bitwise", flags=()):
    """A case with 16 equal rounds of each metric, or with the values given."""
    made = [Agreement(case, "loss", "loss", 0.0, 1e-7, 0.0, verdict, "consensus")]
    for metric, value in figures.items():
        values = (float(value),) * 16 if isinstance(value, int | float) else tuple(value)
        made.append(Measurement(case, metric, METRICS[metric][0], values, 1, 0, flags))
    return [*made, Outcome(case, status, "" if status == "ok" else "why", 1.0, "pytest")]


def rows(*parts) -> dict[str, dict]:
    """metric -> the only row of the summary with it."""
    flat = [record for part in parts for record in part]
    table = frame.summary(Run("r", Path("r"), {}, tuple(flat)))
    found = table.to_dict("records")
    derived = {row["metric"]: row for row in found if row["metric"] in DERIVED}
    return {row["metric"]: row for row in found} | derived


def starts(*, step=0.1, step_eager=0.15, eager="ok", jit="ok", slow="ok", compiled=COMPILED):
    return [
        records(replace(JIT, suite="cold_start"), compiled, status=jit),
        records(replace(EAGER, suite="cold_start"), START | {"first_call_time": 0.5}, status=eager),
        records(JIT, {"step_time": step}, flags=("recompiled",)),
        records(EAGER, {"step_time": step_eager}, status=slow),
    ]


def test_break_even_by_hand():
    """(15 - 3.5) s / (0.15 - 0.10) s = 230 steps."""
    row = rows(*starts())["break_even_steps"]
    assert row["median"] == pytest.approx(230)
    assert (row["suite"], row["adapter"], row["unit"]) == ("cold_start", "jax_jit", "steps")
    assert (row["flags"], row["published"]) == ("recompiled", True)
    assert math.isnan(row["low"])


def test_who_is_no_faster_never_pays_for_itself_and_who_is_ahead_needs_no_steps():
    assert rows(*starts(step=0.2))["break_even_steps"]["median"] == math.inf
    ready = COMPILED | {"import_time": 0.1, "build_time": 0.1, "first_call_time": 0.2}
    assert rows(*starts(compiled=ready))["break_even_steps"]["median"] == 0


@pytest.mark.parametrize("step", [0.15, [0.10] * 8 + [0.2] * 8, [0.1] * 5])
def test_steps_that_cannot_be_told_apart_claim_nothing(step):
    row = rows(*starts(step=step))["break_even_steps"]
    assert math.isnan(row["median"])
    assert row["note"] == "step times cannot be told apart"


def test_break_even_needs_four_published_cases_and_a_compiler():
    for fate in ({"eager": "failed"}, {"jit": "divergent"}, {"slow": "crashed"}):
        assert "break_even_steps" not in rows(*starts(**fate))
    for without in range(4):
        parts = starts()
        del parts[without]
        assert "break_even_steps" not in rows(*parts)
    eager = START | {"first_call_time": 12.0}
    assert "break_even_steps" not in rows(*starts(compiled=eager))
    assert "break_even_steps" not in rows(*starts(compiled=START | {"trace_time": 1.0}))


TIME = st.floats(1e-6, 1e4)


@given(TIME, TIME, TIME, TIME)
def test_after_break_even_both_took_equally_long(ready, ready_eager, step, step_eager):
    n = break_even(ready, ready_eager, step, step_eager)
    assert n >= 0
    if step >= step_eager:
        assert n == math.inf
    elif ready <= ready_eager:
        assert n == 0
    else:
        mine, theirs = ready + n * step, ready_eager + n * step_eager
        assert mine == pytest.approx(theirs, rel=1e-6)


def test_activations_are_the_peak_of_training_above_that_of_inference():
    train = replace(JIT, suite="memory")
    infer = replace(train, mode="infer")
    host = [records(train, {"step_peak_bytes": 300}), records(infer, {"step_peak_bytes": 100})]
    row = rows(*host)["activation_bytes"]
    assert (row["median"], row["mode"], row["unit"]) == (200, "train", "B")
    assert row["note"].startswith("host")
    device = [
        records(train, {"step_peak_bytes": 300, "device_peak_bytes": 7000}),
        records(infer, {"step_peak_bytes": 100, "device_peak_bytes": 1000}),
    ]
    row = rows(*device)["activation_bytes"]
    assert (row["median"], row["note"].split()[0]) == (6000, "device")
    for status in ("divergent", "out_of_memory"):
        hidden = records(infer, {"step_peak_bytes": 100}, status=status)
        assert "activation_bytes" not in rows(host[0], hidden)
    larger = records(infer, {"step_peak_bytes": 301})
    assert "activation_bytes" not in rows(host[0], larger)
    other = records(replace(infer, batch=4), {"step_peak_bytes": 100})
    assert "activation_bytes" not in rows(host[0], other)


def work(case=JIT, *, moved=1e8, step: float | list[float] = 1e-2, **fate):
    figures = {"flops_per_step": 1e9, "bytes_per_step": moved, "step_time": step}
    return records(case, figures, **fate)


def test_peak_fraction_by_hand():
    """1e9 FLOP in 10 ms are 1e11 FLOP/s; 10 FLOP/B at 2e10 B/s allow 2e11, 100 FLOP/B 4e11."""
    by_memory = rows(work(), LIMITS)["peak_fraction"]
    assert (by_memory["median"], by_memory["note"]) == (pytest.approx(0.5), "memory")
    by_compute = rows(work(moved=1e7), LIMITS)["peak_fraction"]
    assert (by_compute["median"], by_compute["note"]) == (pytest.approx(0.25), "compute")


def test_the_interval_of_a_peak_fraction_is_that_of_its_step_time():
    found = rows(work(step=[0.01 + 0.0001 * i for i in range(16)], moved=1e7), LIMITS)
    fraction, step = found["peak_fraction"], found["step_time"]
    assert fraction["low"] == pytest.approx(1e9 / step["high"] / 4e11)
    assert fraction["high"] == pytest.approx(1e9 / step["low"] / 4e11)
    assert (fraction["level"], fraction["method"]) == (step["level"], step["method"])


@given(st.floats(1e3, 1e15), st.floats(1e3, 1e15), st.floats(1e-6, 1e3))
def test_a_peak_fraction_never_flatters(flops, moved, step):
    figures = {"flops_per_step": flops, "bytes_per_step": moved, "step_time": step}
    row = rows(records(JIT, figures), LIMITS)["peak_fraction"]
    bounds = {"compute": flops / 4e11, "memory": moved / 2e10}  # least seconds by either limit
    assert row["median"] == pytest.approx(max(bounds.values()) / step, rel=1e-9)
    assert bounds[row["note"]] == pytest.approx(max(bounds.values()), rel=1e-9)


def test_no_peak_fraction_without_its_limits_or_of_a_withheld_case():
    on_gpu = replace(JIT, device="cuda")
    cpu_only = tuple(limit for limit in LIMITS if limit.device == "cpu")
    assert "peak_fraction" not in rows(work())
    assert "peak_fraction" not in rows(work(replace(JIT, precision="fp64")), LIMITS)
    assert "peak_fraction" not in rows(work(on_gpu), cpu_only)
    assert "peak_fraction" not in rows(work(), LIMITS[:2])
    assert "peak_fraction" not in rows(work(status="divergent"), LIMITS)
    assert "peak_fraction" not in rows(work(verdict="mistrusted"), LIMITS)
    assert rows(work(on_gpu), LIMITS)["peak_fraction"]["median"] == pytest.approx(1e11 / 3e13)


def on(machine, *cases):
    """Says which machine ran cases."""
    return [Facts(case, {"ran_on": {"host": machine, "id": "ab12"}}) for case in cases]


def test_a_peak_is_that_of_the_machine_that_ran_the_case():
    figures = {"flops_per_step": 1e9, "bytes_per_step": 1e6, "step_time": 0.01}
    slow, fast = (
        replace(limit, value=limit.value / f, machine=f"{name} ab12")
        for name, f, limit in (("slow", 4, LIMITS[1]), ("fast", 1, LIMITS[1]))
    )
    others = [replace(LIMITS[2], machine=limit.machine) for limit in (slow, fast)]
    for machine, peak in (("slow", slow), ("fast", fast)):
        found = rows(records(JIT, figures), on(machine, JIT), [slow, fast, *others])
        assert found["peak_fraction"]["median"] == pytest.approx(1e11 / peak.value)
    # the launcher's limits are no machine's that ran the case
    assert "peak_fraction" not in rows(records(JIT, figures), on("slow", JIT), LIMITS)


def test_what_ran_on_two_machines_is_not_compared():
    cases = [part[0].case for part in starts()]
    same = on("a", *cases)
    assert "break_even_steps" in rows(*starts(), same)
    assert "break_even_steps" not in rows(*starts(), same[:-1], on("b", cases[-1]))


def test_latency_is_shown_by_its_quantiles_only():
    calls = [float(i) for i in range(1, 1001)]
    found = rows(records(JIT, {"latency": calls}))
    assert set(found) == {"latency_p50", "latency_p95", "latency_p99"}
    p50, p99 = found["latency_p50"], found["latency_p99"]
    assert (p50["median"], p50["rounds"], p50["unit"]) == (500.5, 1000, "s")
    assert p50["low"] < 500.5 < p50["high"]
    assert 980 < p99["low"] < 990 < p99["high"] <= 1000
    assert set(rows(records(JIT, {"latency": calls[:200]}))) == {"latency_p50", "latency_p95"}


@pytest.mark.parametrize(("lengths", "kept"), [((50, 50, 50), False), ((50, 400, 400), True)])
def test_a_quantile_that_no_process_supports_is_dropped(lengths, kept):
    calls = [1.0 + i / 1000 for i in range(400)]
    parts = [
        Measurement(JIT, "latency", "s", tuple(calls[:length]), 1, p)
        for p, length in enumerate(lengths)
    ]
    found = rows(parts)
    assert ("latency_p99" in found) == kept
    if kept:  # but too few calls for t to cover
        assert math.isnan(found["latency_p99"]["high"])
        assert found["latency_p99"]["note"] == "3 of 3 processes have fewer than 1000 values"


def test_latency_of_several_processes_is_that_of_their_quantiles():
    parts = [Measurement(JIT, "latency", "s", (t,) * 400, 1, p) for p, t in enumerate((1.0, 4.0))]
    row = rows(parts)["latency_p95"]
    assert row["median"] == pytest.approx(2.0)  # the geometric mean
    assert (row["processes"], row["method"]) == (2, "t over processes")
    assert not row["published"]


@pytest.mark.parametrize(
    ("metric", "noisy"),
    [("step_time", True), ("control_ratio", True), ("flops_per_step", False),
     ("import_time", False), ("host_peak_bytes", False), ("latency", True)],
)  # fmt: skip
def test_only_repeated_times_are_noisy(metric, noisy):
    wide = rows(records(JIT, {metric: [1.0] * 8 + [1.2] * 8}))
    row = wide.get(metric) or wide["latency_p50"]
    assert ("noisy" in row["flags"].split(",")) == noisy


@given(st.floats(0.0, 0.2))
def test_noisy_is_more_than_five_percent_to_one_side(excess):
    times = [1.0] * 9 + [1.0 + excess] * 7  # median 1, upper bound the 13th value
    flags = rows(records(JIT, {"step_time": times}, flags=("not_steady",)))["step_time"]["flags"]
    assert flags == ("noisy,not_steady" if 1.0 + excess - 1.0 > 0.05 else "not_steady")


def test_without_an_interval_nothing_is_noisy():
    assert rows(records(JIT, {"step_time": [1.0, 2.0]}))["step_time"]["flags"] == ""
