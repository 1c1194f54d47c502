"""Two stored runs, one against the other."""

import gzip
import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest

from results import announce, compare, gate
from results.__main__ import main
from results.policy import Policy
from results.records import Agreement, Case, Decision, Facts, Measurement, Outcome
from results.store import Run, RunWriter

CASE = Case("performance", "train", "mlp", "small", "torch_eager", "cpu", "fp32", 64)
MACHINE = {
    "fingerprint": {"id": "a", "cpu": {"model": "Xeon", "cores": 2}},
    "python": "3.11.7",
    "versions": {"torch": "2.13.0"},
}
HOSTILE = "a|b`c`<script>alert(1)</script>[x](http://y)\n::error::\x1b[31m*"


def step_times(*medians, case=CASE, metric="step_time", unit="s"):
    return [
        Measurement(case, metric, unit, (median * 0.99, median, median * 1.2), process=n)
        for n, median in enumerate(medians)
    ]


def ok(case=CASE, status="ok"):
    return Outcome(case, status, "" if status == "ok" else "because", 1.0, "pytest")


def verdict_of(verdict, case=CASE):
    return Agreement(case, "output", "output", 1e-7, 1e-7, 1.0, verdict, "float64")


def run(*records, name="run", environment=MACHINE, tmp_path=None):
    return Run(name, tmp_path, environment, tuple(records))


def compared(base, head, policy=None):
    found = compare.compare(run(*base, name="old"), run(*head, name="new"), policy or Policy())
    return {d.metric: d for d in found.decisions}


@pytest.mark.parametrize(
    ("base", "head", "verdict"),
    [
        ((0.100, 0.101, 0.099), (0.110, 0.111, 0.109), "regressed"),
        ((0.110, 0.111, 0.109), (0.100, 0.101, 0.099), "improved"),
        ((0.100, 0.1001, 0.0999), (0.1001, 0.1, 0.1002), "unchanged"),
        ((0.100, 0.13, 0.08), (0.110, 0.14, 0.09), "inconclusive"),
    ],
)
def test_processes_are_the_replicates(base, head, verdict):
    found = compared([*step_times(*base), ok()], [*step_times(*head), ok()])["step_time"]
    assert found.verdict == verdict
    assert found.base == "old"
    assert found.reason == "3 and 3 processes"
    assert found.low <= found.ratio <= found.high


def test_one_process_decides_nothing():
    found = compared([*step_times(0.1), ok()], [*step_times(0.2), ok()])["step_time"]
    assert found.verdict == "inconclusive"
    assert found.ratio == pytest.approx(2)
    assert (found.low, found.high) == (None, None)
    assert "one process has no interval" in found.reason


def test_the_interval_is_welch_s():
    """Against scipy's own, which knows no interval of Welch's but the test."""
    from scipy import stats

    rng = np.random.default_rng(3)
    base, head = rng.lognormal(0, 0.01, 5), rng.lognormal(0.01, 0.03, 7)
    found = compare.effect(base, head)
    test = stats.ttest_ind(np.log(head), np.log(base), equal_var=False, alternative="greater")
    assert found.p == pytest.approx(test.pvalue)
    interval = stats.ttest_ind(np.log(head), np.log(base), equal_var=False)
    bounds = interval.confidence_interval(0.98)
    assert math.log(found.low) == pytest.approx(bounds.low)
    assert math.log(found.high) == pytest.approx(bounds.high)


def test_memory_is_compared_as_an_amount():
    def bytes_of(*values):
        records = step_times(*values, metric="host_peak_bytes", unit="B")
        return [*records, ok()]

    mib = 2**20
    found = compared(bytes_of(100 * mib), bytes_of(104 * mib))["host_peak_bytes"]
    assert found.verdict == "regressed"
    found = compared(bytes_of(10 * mib), bytes_of(10.9 * mib))["host_peak_bytes"]
    assert found.verdict == "unchanged"  # less than 1 MiB


@pytest.mark.parametrize(
    ("base", "head", "verdict", "reason"),
    [
        ("rounding-equal", "precision-equal", "regressed", "rounding-equal to precision-equal"),
        ("precision-equal", "rounding-equal", "improved", "precision-equal to rounding-equal"),
        ("bitwise", "identical", "unchanged", "identical"),
    ],
)
def test_a_verdict_that_got_worse_is_a_regression(base, head, verdict, reason):
    found = compared([verdict_of(base), ok()], [verdict_of(head), ok()])["conformance"]
    assert (found.verdict, found.reason) == (verdict, reason)


@pytest.mark.parametrize("status", ["divergent", "crashed", "timeout", "failed"])
def test_a_case_that_was_right_and_is_not_is_a_regression(status):
    base = [verdict_of("rounding-equal"), ok(), *step_times(1, 1, 1)]
    found = compared(base, [ok(status=status), *step_times(1, 1, 1)])
    assert found["conformance"].verdict == "regressed"
    assert found["conformance"].reason == f"rounding-equal to {status}: because"
    assert "step_time" not in found  # what is not right has no speed


def test_more_graph_breaks_are_a_regression():
    def facts(**counts):
        return [Facts(CASE, {"parameter_dtypes": ["float32"], **counts}), ok()]

    found = compared(facts(graph_breaks=0, graph_nodes=9), facts(graph_breaks=1, graph_nodes=7))
    assert found["graph_breaks"].verdict == "regressed"
    assert found["graph_breaks"].reason == "0 to 1"
    assert found["graph_nodes"].verdict == "improved"


def test_a_policy_says_what_is_not_compared():
    policy = Policy(everything={"step_time": None, "conformance": None})
    records = [verdict_of("bitwise"), ok(), *step_times(1, 1, 1)]
    assert compared(records, records, policy) == {}


def test_other_machines_versions_and_missing_cases_are_told():
    other = {**MACHINE, "versions": {"torch": "2.14.0"},
             "fingerprint": {"id": "b", "cpu": {"model": "EPYC", "cores": 2}}}  # fmt: skip
    found = compare.compare(run(ok()), run(environment=other), Policy())
    assert list(found.machines) == ["cpu model is EPYC, but was Xeon"]
    assert "torch is 2.14.0, but was 2.13.0" in found.notes
    assert any("1 case of base is not in head: performance/train/mlp" in n for n in found.notes)


@pytest.mark.parametrize(
    ("old", "new", "metric", "verdict", "reason"),
    [
        ("ok", "unsupported", "support", "regressed", "support lost: because"),
        ("ok", "interrupted", "support", "inconclusive", "not measured in head: because"),
        ("unsupported", "ok", "support", "improved", "unsupported to rounding-equal"),
        ("unsupported", "crashed", "conformance", "inconclusive", "no baseline"),
        ("crashed", "unsupported", "conformance", "inconclusive", "no baseline"),
        ("divergent", "divergent", "conformance", "inconclusive", "no baseline"),
        ("divergent", "ok", "conformance", "improved", "divergent to rounding-equal"),
        ("divergent", "ok", "support", "inconclusive", "no baseline, since it is divergent"),
        ("interrupted", "ok", "support", "inconclusive", "no baseline, since it is interrupted"),
    ],
)
def test_no_end_of_a_case_is_left_out(old, new, metric, verdict, reason):
    records = [verdict_of("rounding-equal"), *step_times(1, 1, 1)]
    found = compared([*records, ok(status=old)], [*records, ok(status=new)])
    assert found[metric].verdict == verdict
    assert found[metric].reason.startswith(reason)
    assert "step_time" not in found  # neither a speed of what is wrong, nor a baseline that is


def test_what_neither_run_supports_is_listed_with_its_reason():
    missing = [ok(status="unsupported")]
    found = compare.compare(run(*missing), run(*missing), Policy())
    assert found.decisions == []
    assert found.ungated == {CASE: "unsupported in both: because"}


def test_a_time_that_head_lacks_is_not_decided():
    found = compared([*step_times(1, 1, 1), ok()], [ok()])
    assert found["step_time"].verdict == "inconclusive"


def test_of_many_times_that_are_compared_some_are_slower_by_chance():
    """40 cases of equal programs, of which one came out slower by chance, at p about 0.005."""

    def times(median, scatter):
        return (median - scatter, median, median + scatter)

    cases = [replace(CASE, model=f"m{n}") for n in range(40)]
    base = [r for c in cases for r in (*step_times(*times(1.0, 0.01), case=c), ok(c))]
    head = [r for c in cases[1:] for r in (*step_times(*times(1.0, 0.01), case=c), ok(c))]
    odd = [*step_times(*times(1.04, 0.01), case=cases[0]), ok(cases[0])]
    found = compare.compare(run(*base), run(*head, *odd), Policy()).decisions
    assert [d.verdict for d in found if d.case == cases[0]] == ["inconclusive"]
    assert "among 40 times that were compared it may be chance (Holm)" in found[0].reason
    alone = compare.compare(run(*base), run(*odd), Policy()).decisions
    assert [d.verdict for d in alone if d.case == cases[0]] == ["regressed"]
    clear = [*step_times(*times(1.5, 0.01), case=cases[0]), ok(cases[0])]
    found = compare.compare(run(*base), run(*head, *clear), Policy()).decisions
    assert [d.verdict for d in found if d.case == cases[0]] == ["regressed"]


# -- commands --------------------------------------------------------------------------------------


@pytest.fixture
def stored(tmp_path, capsys, monkeypatch):
    """Stores runs and runs a command on them; returns its exit code, output and error lines."""
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)

    def store(name, *records, environment=MACHINE):
        writer = RunWriter(tmp_path, name, environment)
        for record in records:
            writer.append(record)
        writer.close()

    def call(*arguments):
        try:
            code = main([arguments[0], "--results", str(tmp_path), *map(str, arguments[1:])])
        except SystemExit as stopped:
            code = stopped.code
        return code, *capsys.readouterr()

    call.store = store
    return call


def test_gate_ends_with_0_1_2_or_3(stored, tmp_path):
    stored.store("base", *step_times(0.1, 0.1001, 0.0999), ok())
    stored.store("same", *step_times(0.1001, 0.1, 0.1), ok())
    stored.store("slow", *step_times(0.12, 0.1201, 0.1199), ok())
    stored.store("once", *step_times(0.1), ok())
    stored.store("none")
    other = {**MACHINE, "fingerprint": {"id": "c", "cpu": {"model": "EPYC"}}}
    stored.store("there", *step_times(0.1, 0.1, 0.1), ok(), environment=other)
    assert stored("gate", "base", "same")[0] == 0
    code, out, err = stored("gate", "base", "slow")
    assert code == 1
    assert "regressed" in out
    assert "1.20" in out
    assert "weaker than pairs" in err
    assert stored("gate", "base", "once")[0] == 3
    assert stored("gate", "base", "none")[0] == 3
    assert stored("gate", "base", "nowhere")[0] == 2
    code, _, err = stored("gate", "base", "there")
    assert code == 3
    assert "different machines: cpu cores is absent, but was 2; cpu model is EPYC" in err
    assert stored("gate", "base", "there", "--other-machine")[0] == 0
    assert stored("compare", "base", "slow")[0] == 0
    assert stored("compare", "base", "none")[0] == 3


MADE = {"preset": "standard", "threads": 1, "allocator": "pinned", "isolation": "case"}


@pytest.mark.parametrize(
    "other",
    [{"threads": 8}, {"preset": "full"}, {"allocator": "default"}, {"isolation": "adapter"},
     {"isa": "avx2"}, {"variables": {"XLA_FLAGS": "--xla_cpu_enable_fast_math=true"}}],
)  # fmt: skip
def test_runs_that_were_made_otherwise_are_not_compared(stored, tmp_path, other):
    base, head = step_times(0.1, 0.1001, 0.0999), step_times(0.05, 0.0501, 0.0499)
    stored.store("base", *base, ok(), environment={**MACHINE, **MADE})
    stored.store("head", *head, ok(), environment={**MACHINE, **MADE, **other})
    code, _, err = stored("gate", "base", "head", "-o", tmp_path / "out")
    assert code == 3
    assert "not decided, since the runs were made with different settings: " in err
    assert "but was" in err
    told = json.loads((tmp_path / "out" / "gate.json").read_text())
    assert told["decisions"] == []
    assert told["exit_code"] == 3
    assert "not decided" in (tmp_path / "out" / "gate.svg").read_text()
    code, out, _ = stored("gate", "base", "head", "--other-settings")
    assert code == 0
    assert "improved" in out
    assert "warning: another setting: " in stored("compare", "base", "head")[2]


def test_where_things_are_is_no_setting(stored):
    for name, place in (("base", "/a"), ("head", "/b")):
        where = {"variables": {"PYTHONPATH": place, "LD_LIBRARY_PATH": place}}
        stored.store(name, *step_times(1, 1, 1), ok(), environment={**MACHINE, **MADE, **where})
    assert stored("gate", "base", "head")[0] == 0


@pytest.mark.parametrize("more", [{}, {"ended": "2026-01-01T01:00:00", "unreached": 3}])
def test_a_run_that_was_stopped_does_not_pass(stored, more):
    began = {**MACHINE, "started": "2026-01-01T00:00:00"}
    stored.store("base", *step_times(1, 1, 1), ok(),
                 environment={**began, "ended": "2026-01-01T01:00:00"})  # fmt: skip
    stored.store("head", *step_times(1, 1, 1), ok(), environment={**began, **more})
    code, out, _ = stored("gate", "base", "head")
    assert code == 3
    assert "head was stopped before its end" in out


def test_support_that_was_lost_is_1_in_all_that_a_gate_says(stored, tmp_path):
    stored.store("base", *step_times(1, 1, 1), ok())
    stored.store("head", ok(status="unsupported"))
    code, out, _ = stored("gate", "base", "head", "-o", tmp_path / "out")
    assert code == 1
    assert "1 regressed" in out
    assert "support lost" in (tmp_path / "out" / "gate.md").read_text()
    assert "1 regressed" in (tmp_path / "out" / "gate.svg").read_text()


def test_gate_takes_a_policy_and_refuses_a_wrong_one(stored, tmp_path):
    stored.store("base", *step_times(0.1, 0.1001, 0.0999), ok())
    stored.store("slow", *step_times(0.12, 0.1201, 0.1199), ok())
    policy = tmp_path / "gate.toml"
    policy.write_text("[model.mlp]\nstep_time = 0.5")
    assert stored("gate", "base", "slow", "--policy", policy)[0] == 0
    policy.write_text("[model.mlp]\nstep_tme = 0.5")
    code, _, err = stored("gate", "base", "slow", "--policy", policy)
    assert code == 2
    assert err.count("\n") == 1
    assert "did you mean step_time?" in err


def test_gate_writes_files_and_tells_github(stored, tmp_path, monkeypatch):
    stored.store("base", *step_times(0.1, 0.1001, 0.0999), ok())
    stored.store("slow", *step_times(0.12, 0.1201, 0.1199), ok())
    summary = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    code, out, _ = stored("gate", "base", "slow", "-o", tmp_path / "out")
    assert code == 1
    assert "::error title=Assay%3A regressed::train/mlp/small/torch_eager/cpu/fp32/b64: " in out
    assert summary.read_text() == (tmp_path / "out" / "gate.md").read_text()
    told = json.loads((tmp_path / "out" / "gate.json").read_text())
    assert told["counts"] == {"regressed": 1}
    assert "1 regressed" in (tmp_path / "out" / "gate.svg").read_text()


@pytest.mark.parametrize("named", ["", "records.jsonl.gz"])
def test_a_compressed_run_is_a_run_by_its_path_as_well(stored, tmp_path, named):
    """Its environment is JSON, and it is no folder of pytest-benchmark's for that."""
    for name, times in (("base", (0.1, 0.1001, 0.0999)), ("slow", (0.12, 0.1201, 0.1199))):
        stored.store(name, *step_times(*times), ok())
        path = tmp_path / name / "records.jsonl"
        path.with_suffix(".jsonl.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    code, out, err = stored("gate", tmp_path / "base" / named, tmp_path / "slow" / named)
    assert code == 1, err
    assert "train/mlp/small/torch_eager" in out


# -- what nothing can be divided by ----------------------------------------------------------------


def peaks(*values):
    return [
        Measurement(CASE, "host_peak_bytes", "B", (float(value),), process=n)
        for n, value in enumerate(values)
    ]


@pytest.mark.parametrize(
    ("before", "now", "verdict"),
    [
        ((0, 0, 0), (1e8, 1e8, 1e8), "regressed"),
        ((1e8, 1e8, 1e8), (0, 0, 0), "improved"),
        ((0, 0, 0), (1000, 0, 0), "unchanged"),
    ],
)
def test_memory_of_0_is_compared_by_its_amount(before, now, verdict):
    found = compared([*peaks(*before), ok()], [*peaks(*now), ok()])["host_peak_bytes"]
    assert (found.verdict, found.ratio) == (verdict, None)
    assert " to " in found.reason


def test_a_time_of_0_is_inconclusive_and_not_left_out():
    found = compared([*step_times(0.0, 0.0), ok()], [*step_times(0.1, 0.1), ok()])["step_time"]
    assert found.verdict == "inconclusive"
    assert found.reason == "0 s to 100 ms, and nothing can be divided by 0"


def test_a_case_that_head_did_not_judge_is_inconclusive():
    timed = step_times(0.1, 0.1001, 0.0999)
    found = compared([*timed, verdict_of("bitwise"), ok()], [*timed, ok()])
    assert found["step_time"].verdict == "unchanged"
    assert found["conformance"].verdict == "inconclusive"
    assert found["conformance"].reason == "identical in base, but not judged in head"


# -- what is announced -----------------------------------------------------------------------------


def decision(verdict="regressed", **changes):
    told = {"threshold": 0.05, "ratio": 1.1, "low": 1.05, "high": 1.2, "ratios": (1.1,) * 6}
    return Decision(CASE, "step_time", verdict, "base", **{**told, **changes})


def test_a_comment_has_the_marker_by_which_it_is_found_again_and_what_changed_first():
    found = [decision("unchanged"), decision("inconclusive"), decision("regressed")]
    text = announce.markdown(announce.Verdict(found, "old", "new"))
    assert text.startswith(announce.MARKER)
    assert "1 regressed, 1 unchanged, 1 inconclusive" in text
    order = [text.index(f" {name} |") for name in ("regressed", "inconclusive", "unchanged")]
    assert order == sorted(order)
    assert text.index("<details>") < order[2]


def test_names_can_neither_leave_their_cell_nor_command_github():
    case = Case("gate", "infer", HOSTILE, "tiny", "a", "cpu", "fp32", 1)
    found = Decision(case, "step_time", "regressed", "base", reason=HOSTILE)
    verdict = announce.Verdict([found], HOSTILE, HOSTILE, undecided=HOSTILE, notes=[HOSTILE])
    text = announce.markdown(verdict)
    assert "<script>" not in text
    assert "\x1b" not in text
    assert re.search(r"(?<!\\)\[x\]", text) is None
    for line in text.splitlines():
        if line.startswith("| 🔴"):
            assert len(re.findall(r"(?<!\\)\|", line)) == 8
    (line,) = announce.workflow_commands([found])
    assert "\n" not in line
    assert line.count("::error") == 1 or "%0A::error" in line
    assert "<script>" not in announce.badge(verdict)
    json.loads(announce.to_json(verdict))


@pytest.mark.parametrize(
    ("verdicts", "undecided", "code", "word"),
    [
        (["unchanged", "improved"], "", 0, "no regression"),
        (["unchanged", "regressed", "inconclusive"], "", 1, "1 regressed"),
        (["unchanged", "inconclusive"], "", 3, "not decided"),
        (["unchanged"], "a busy machine", 3, "not decided"),
        ([], "", 3, "not decided"),
    ],
)
def test_what_a_gate_ends_with(verdicts, undecided, code, word):
    found = announce.Verdict([decision(v) for v in verdicts], "a", "b", undecided)
    assert announce.exit_code(found) == code
    assert word in announce.badge(found)


def test_infinite_bounds_are_json():
    found = announce.Verdict([decision(high=math.inf)], "a", "b")
    assert json.loads(announce.to_json(found))["decisions"][0]["high"] == "inf"
    assert gate.VERDICTS[0] == "regressed"
