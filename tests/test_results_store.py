"""The store: what is written comes back, and nothing that was written is lost."""

import gzip
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from results.metrics import METRICS
from results.records import (
    VERDICTS,
    Agreement,
    Case,
    Facts,
    Measurement,
    Outcome,
    RecordError,
    decode,
    encode,
)
from results.store import RECORDS, RunWriter, StoreError, find, read, run_folders

CASE = Case("conformance", "infer", "mlp", "tiny", "jax_jit", "cpu", "fp64", 8)

text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
cases = st.builds(
    Case,
    suite=text,
    mode=st.sampled_from(["infer", "train"]),
    model=text,
    size=text,
    adapter=text,
    device=st.sampled_from(["cpu", "cuda"]),
    precision=text,
    batch=st.integers(1, 2**31),
    recipe=st.text(st.characters(exclude_categories=["Cs"]), max_size=10),
)
numbers = st.floats(0, allow_nan=False, allow_infinity=False)
maybe = st.none() | st.floats(0, allow_nan=False)
measurements = st.sampled_from(sorted(METRICS)).flatmap(
    lambda metric: st.builds(
        Measurement,
        case=cases,
        metric=st.just(metric),
        unit=st.just(METRICS[metric][0]),
        values=st.lists(numbers, min_size=1, max_size=5).map(tuple),
        flags=st.lists(text, max_size=2).map(tuple),
    )
)
agreements = st.builds(
    Agreement,
    case=cases,
    quantity=text,
    tensor=text,
    error=st.floats(0, allow_nan=False),
    floor=maybe,
    ratio=maybe,
    verdict=st.sampled_from(VERDICTS),
    reference=text,
)
outcomes = st.builds(
    Outcome, case=cases, status=st.just("failed"), reason=text, seconds=numbers, reproduce=text
)


@given(measurements | agreements | outcomes)
@settings(max_examples=200)
def test_a_record_comes_back_as_it_was(record):
    line = encode(record)
    assert "\n" not in line
    assert decode(line) == record


def test_the_key_reads_like_a_path():
    assert CASE.key == "infer/mlp/tiny/jax_jit/cpu/fp64/b8"
    assert Case("s", "train", "m", "t", "a", "cpu", "fp64", 1, "adamw").key.endswith("/b1/adamw")


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Case("s", "dream", "m", "t", "a", "cpu", "fp64", 1), "mode is 'dream'"),
        (lambda: Case("s", "infer", "m", "t", "a", "tpu", "fp64", 1), "device is 'tpu'"),
        (lambda: Case("s", "infer", "m", "t", "a", "cpu", "fp64", 0), "batch is 0"),
        (lambda: Case("s", "infer", "", "t", "a", "cpu", "fp64", 1), "model is ''"),
        (lambda: Measurement(CASE, "speed", "s", (1.0,)), "metric is 'speed'"),
        (lambda: Measurement(CASE, "step_time", "ms", (1.0,)), "unit of step_time is 'ms'"),
        (lambda: Measurement(CASE, "step_time", "s", ()), "no values"),
        (lambda: Measurement(CASE, "step_time", "s", (-1.0,)), "value -1.0"),
        (lambda: Measurement(CASE, "step_time", "s", (math.nan,)), "value nan"),
        (lambda: Agreement(CASE, "q", "t", math.nan, None, None, "bitwise", "r"), "error is nan"),
        (lambda: Agreement(CASE, "q", "t", 0.0, None, None, "fine", "r"), "verdict is 'fine'"),
        (lambda: Outcome(CASE, "failed", "", 1.0, "x"), "has no reason"),
        (lambda: Outcome(CASE, "great", "y", 1.0, "x"), "status is 'great'"),
    ],
)
def test_a_wrong_record_cannot_be_made(make, told):
    with pytest.raises(RecordError, match=told):
        make()


def test_what_is_appended_is_read_back(tmp_path):
    records = (
        Facts(CASE, {"threads": 2}),
        Agreement(CASE, "output", "output", math.inf, None, None, "divergent", "numpy"),
        Outcome(CASE, "ok", "", 1.0, "pytest x"),
    )
    writer = RunWriter(tmp_path, "run", {"started": "now"})
    for number, record in enumerate(records, start=1):
        writer.append(record)
        assert len(read(tmp_path / "run").records) == number  # it is there at once
    run = read(tmp_path / "run")
    assert run.records == records
    assert run.environment == {"started": "now"}
    assert run.problems == ()


def test_a_case_has_one_outcome(tmp_path):
    writer = RunWriter(tmp_path, "run", {})
    writer.append(Outcome(CASE, "ok", "", 1.0, "x"))
    with pytest.raises(StoreError, match="exactly one"):
        writer.append(Outcome(CASE, "ok", "", 1.0, "x"))


def test_a_run_is_never_written_twice(tmp_path):
    RunWriter(tmp_path, "run", {})
    with pytest.raises(StoreError, match="'run' already exists"):
        RunWriter(tmp_path, "run", {})


def test_a_full_disk_is_said_and_what_is_there_stays(tmp_path):
    writer = RunWriter(tmp_path, "run", {})
    writer.append(Outcome(CASE, "ok", "", 1.0, "x"))
    with open("/dev/full", "wb", buffering=0) as full:
        writer._file = full
        with pytest.raises(StoreError, match=r"No space left on device.*--results DIR"):
            writer.append(Facts(CASE, {}))
    assert len(read(tmp_path / "run").records) == 1


def test_a_line_that_was_cut_off_is_a_problem_and_the_rest_is_read(tmp_path):
    writer = RunWriter(tmp_path, "run", {})
    writer.append(Outcome(CASE, "ok", "", 1.0, "x"))
    path = tmp_path / "run" / RECORDS
    path.write_bytes(path.read_bytes() + encode(Facts(CASE, {})).encode()[:40])
    run = read(tmp_path / "run")
    assert len(run.outcomes) == 1
    assert "records.jsonl:2 was skipped" in run.problems[0]
    assert "cut off" in run.problems[0]


def test_runs_are_found_by_id_beginning_path_and_latest(tmp_path):
    for name in ("20260101-a", "20260102-b", "20260102-c"):
        RunWriter(tmp_path, name, {})
    assert [folder.name for folder in run_folders(tmp_path)][-1] == "20260102-c"
    assert find(tmp_path, "latest").name == "20260102-c"
    assert find(tmp_path, "20260101").name == "20260101-a"
    assert find(tmp_path, str(tmp_path / "20260102-b")).name == "20260102-b"
    with pytest.raises(StoreError, match="2 runs begin with '20260102'"):
        find(tmp_path, "20260102")
    with pytest.raises(StoreError, match="there is no run 'x'"):
        find(tmp_path, "x")
    with pytest.raises(StoreError, match="holds no run"):
        read(tmp_path)


def test_compressed_records_are_read_and_a_damaged_file_as_far_as_it_goes(tmp_path):
    writer = RunWriter(tmp_path, "r", {})
    for batch in range(1, 200):
        case = Case("s", "infer", "m", "small", "a", "cpu", "fp32", batch)
        writer.append(Outcome(case, "ok", "", 1.0, "-"))
    writer.close()
    plain = read(tmp_path / "r")
    path = tmp_path / "r" / RECORDS
    packed = path.with_name(f"{RECORDS}.gz")
    packed.write_bytes(gzip.compress(path.read_bytes(), mtime=0))
    path.unlink()
    assert read(tmp_path / "r") == plain
    assert find(tmp_path, "latest") == tmp_path / "r"
    packed.write_bytes(packed.read_bytes()[:-40])
    damaged = read(tmp_path / "r")
    assert 0 < len(damaged.records) < 200
    assert "is damaged after" in damaged.problems[0]
