"""Records become tables without losing, inventing or publishing anything."""

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest

from results import frame, store
from results.records import VERDICTS, Agreement, Case, Facts, Limit, Measurement, Outcome
from results.store import Run
from tests import sample_run

CASE = Case("performance", "train", "vit", "small", "jax_jit", "cpu", "fp32", 8)


def run_of(*records) -> Run:
    return Run("r", Path("r"), {}, records)


def agreement(verdict, *, error=1e-7, floor=1e-7, ratio=1.0, tensor="w", case=CASE):
    return Agreement(case, "gradient", tensor, error, floor, ratio, verdict, "consensus")


def outcome(status="ok", *, case=CASE):
    return Outcome(case, status, "" if status == "ok" else "why", 1.0, "pytest")


def timing(*values, process=0, flags=(), metric="step_time", case=CASE):
    unit = {"step_time": "s", "throughput": "1/s"}[metric]
    return Measurement(case, metric, unit, values, 5, process, flags)


def the_row(table: pd.DataFrame) -> dict:
    assert len(table) == 1
    return table.iloc[0].to_dict()


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Run:
    return store.read(sample_run.write(tmp_path_factory.mktemp("runs")))


def test_measurements_have_one_row_per_value():
    table = frame.measurements(run_of(timing(1.0, 2.0, flags=("noisy", "recompiled"))))
    assert list(table["value"]) == [1.0, 2.0]
    assert list(table["round"]) == [0, 1]
    assert set(table["flags"]) == {"noisy,recompiled"}
    assert set(table["key"]) == {CASE.key}


def test_every_case_field_is_a_column_of_every_table(sample):
    for make in (frame.measurements, frame.agreements, frame.outcomes, frame.summary,
                 frame.verdicts, frame.cases):  # fmt: skip
        table = make(sample)
        assert list(table.columns[: len(frame.CASE) + 1]) == [*frame.CASE, "key"]
        assert len(table)
        empty = make(run_of())
        assert list(empty.columns) == list(table.columns)
        assert len(empty) == 0


def test_nothing_is_lost(sample):
    values = sum(len(record.values) for record in sample.measurements)
    assert len(frame.measurements(sample)) == values
    assert len(frame.agreements(sample)) == len(sample.agreements)
    assert len(frame.outcomes(sample)) == len(sample.outcomes)
    of_cases = [record for record in sample.records if not isinstance(record, Limit)]
    assert len(frame.cases(sample)) == len({record.case for record in of_cases})
    assert len(frame.limits(sample)) == len(sample_run.LIMITS)


def test_missing_and_infinite_numbers_stay_apart():
    records = [
        Agreement(CASE, "output", "a", math.inf, None, None, "divergent", "c"),
        agreement("bitwise", error=0.0, ratio=0.0),
    ]
    table = frame.agreements(run_of(*records))
    assert list(table["error"]) == [math.inf, 0.0]
    assert math.isnan(table["floor"][0])
    assert table["floor"][1] == 1e-7


def test_summary_of_one_process_uses_its_rounds():
    row = the_row(frame.summary(run_of(timing(*range(1, 17)))))
    assert (row["median"], row["low"], row["high"]) == (8.5, 4, 13)
    assert (row["rounds"], row["processes"], row["unit"]) == (16, 1, "s")
    assert row["method"] == "order statistics"


def test_summary_of_several_processes_uses_their_medians():
    records = [timing(1.0, 2.0, 3.0, process=p, flags=("noisy",) * (p == 1)) for p in range(3)]
    row = the_row(frame.summary(run_of(*records)))
    assert row["median"] == pytest.approx(2.0)
    assert (row["rounds"], row["processes"], row["flags"]) == (9, 3, "noisy")
    assert row["method"] == "t over processes"


def test_records_of_one_process_are_one_sample():
    row = the_row(frame.summary(run_of(timing(1.0, 2.0), timing(3.0))))
    assert (row["median"], row["rounds"], row["processes"]) == (2.0, 3, 1)
    assert "at least 6" in row["note"]


def test_limits_are_sorted_and_no_case():
    one = Limit("bandwidth", "B/s", 1e10, "a", "cpu", 2, "2026")
    other = Limit("bandwidth", "B/s", 2e10, "b", "cpu", 2, "2026")
    run = run_of(one, other)
    assert list(frame.limits(run)["adapter"]) == ["b", "a"]
    assert frame.limits(run).columns[0] == "limit"
    assert list(frame.limits(run_of()).columns) == list(frame.limits(run).columns)
    for make in (frame.measurements, frame.agreements, frame.outcomes, frame.summary,
                 frame.verdicts, frame.cases):  # fmt: skip
        assert len(make(run)) == 0


def test_cases_that_differ_in_threads_or_length_are_kept_apart():
    points = [replace(CASE, threads=2), replace(CASE, length=65), CASE]
    table = frame.summary(run_of(*(timing(1.0, case=case) for case in points)))
    assert list(table["threads"]) == [2, 0, 0]
    assert list(table["length"]) == [0, 65, 0]


def test_throughput_is_summarised_from_its_own_record():
    table = frame.summary(run_of(timing(0.5), timing(100.0, metric="throughput")))
    assert dict(zip(table["metric"], table["median"], strict=True)) == {
        "step_time": 0.5,
        "throughput": 100.0,
    }


def test_the_worst_verdict_is_that_of_the_case():
    order = ["identical", "bitwise", "rounding-equal", "precision-equal", "mistrusted", "divergent"]
    assert sorted(order, key=frame.BADNESS.__getitem__) == order
    for better, worse in pairwise(order):
        records = [agreement(worse, ratio=0.1, tensor="worse"), agreement(better, ratio=9.0)]
        row = the_row(frame.verdicts(run_of(*records)))
        assert (row["verdict"], row["tensor"], row["tensors"]) == (worse, "worse", 2)


def test_the_worst_tensor_has_the_largest_ratio_where_there_is_a_floor():
    records = [
        agreement("rounding-equal", error=1e-3, ratio=2.0, tensor="a"),
        agreement("rounding-equal", error=1e-9, ratio=3.0, tensor="b"),
    ]
    row = the_row(frame.verdicts(run_of(*records)))
    assert (row["tensor"], row["error"], row["ratio"]) == ("b", 1e-9, 3.0)


def test_the_worst_tensor_has_the_largest_error_where_there_is_no_floor():
    records = [
        agreement("identical", error=error, floor=None, ratio=None, tensor=f"{error:g}")
        for error in (1e-14, 1e-12, 1e-13)
    ]
    row = the_row(frame.verdicts(run_of(*records)))
    assert row["tensor"] == "1e-12"
    assert math.isnan(row["ratio"])


def test_every_verdict_has_its_place():
    assert set(frame.BADNESS) == set(VERDICTS)
    assert set(frame.PUBLISHABLE) < set(VERDICTS)


def test_a_null_gradient_does_not_count_as_bad():
    null = agreement("null-gradient", error=1.0, ratio=1e6, tensor="key bias")
    row = the_row(frame.verdicts(run_of(null, agreement("bitwise", ratio=0.0))))
    assert (row["verdict"], row["tensor"], row["tensors"]) == ("bitwise", "w", 2)
    assert the_row(frame.verdicts(run_of(null)))["verdict"] == "null-gradient"


def test_a_tensor_judged_against_two_references_is_one_tensor():
    other = Agreement(CASE, "gradient", "w", 1e-9, 1e-7, 0.01, "rounding-equal", "numpy")
    assert the_row(frame.verdicts(run_of(agreement("rounding-equal"), other)))["tensors"] == 1


@pytest.mark.parametrize("status", ["divergent", "failed", "timeout", "interrupted"])
def test_figures_of_a_case_that_is_not_ok_are_not_published(status):
    run = run_of(timing(1.0), agreement("rounding-equal"), outcome(status))
    assert not frame.summary(run)["published"].any()


@pytest.mark.parametrize("status", ["divergent", "failed", "interrupted"])
def test_values_that_were_recorded_before_their_case_failed_say_so(status):
    """A latency is timed, and then its program is wrong on a batch that it had not seen."""
    table = frame.measurements(
        run_of(timing(1.0, 2.0), agreement("rounding-equal"), outcome(status))
    )
    assert set(table["status"]) == {status}
    assert list(table["published"]) == [False, False]
    sound = frame.measurements(run_of(timing(1.0), agreement("rounding-equal"), outcome()))
    assert (the_row(sound)["status"], the_row(sound)["published"]) == ("ok", True)


def test_figures_need_an_outcome_and_a_verdict_that_allow_them():
    good = agreement("rounding-equal")
    assert frame.summary(run_of(timing(1.0), good, outcome()))["published"].all()
    for records in (
        [timing(1.0), good],  # the run stopped too early
        [timing(1.0), outcome()],  # nothing was judged
        [timing(1.0), agreement("divergent"), outcome()],  # ok in name only
        [timing(1.0), good, agreement("mistrusted"), outcome()],
    ):
        assert not frame.summary(run_of(*records))["published"].any()


def test_a_case_without_an_outcome_has_a_row_that_says_so():
    row = the_row(frame.cases(run_of(Facts(CASE, {"threads": 1}))))
    assert row["status"] == frame.NO_OUTCOME
    assert "stopped" in row["reason"]
    assert math.isnan(row["seconds"])
    assert (row["verdict"], row["published"]) == ("", False)


def test_cases_that_share_a_key_are_kept_apart():
    one = Case("s", "infer", "a/b", "c", "x", "cpu", "fp32", 1)
    other = Case("s", "infer", "a", "b/c", "x", "cpu", "fp32", 1)
    assert one.key == other.key
    run = run_of(
        *(timing(t, case=c) for t, c in ((1.0, one), (2.0, other))),
        agreement("bitwise", case=one),
        agreement("divergent", case=other),
        *(outcome(case=c) for c in (one, other)),
    )
    table = frame.summary(run)
    assert list(zip(table["median"], table["published"], strict=True)) == [
        (1.0, True),
        (2.0, False),
    ]


def test_names_that_look_like_missing_values_stay_names(sample):
    assert "NaN" in set(frame.cases(sample)["model"])
