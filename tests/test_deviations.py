"""Known deviations excuse what they name, as long as it is true."""

import dataclasses
import math
import re
from fnmatch import fnmatchcase

import numpy as np
import pytest

from adapters import model as models
from harness import isa
from harness.machine import INSTRUCTION_SETS
from harness.runner import ENDS
from numerics import deviations, examination, exercises
from numerics.deviations import DeviationError, Ran
from numerics.judge import Judgement
from results.records import Case

ENTRY = """
[[deviation]]
framework = "tensorflow"
executions = ["graph"]
versions = {tensorflow = ">=2.20,<3"}
suite = "operations"
subject = "gelu"
precisions = ["fp32"]
rows = ["gradient usual: *"]
reason = "the kernel rounds"
link = "https://example.org/1"
"""
CASE = Case("operations", "train", "gelu", "tiny", "tf_graph", "cpu", "fp32", 1)
SETS = {"": ["avx2", "avx512f", "avx512_fp16"], "onednn": ["avx2", "avx512f"]}
RAN = Ran("tensorflow", "graph", {"tensorflow": "2.21.0"}, {"onednn": "v3.7.1"}, "GenuineIntel",
          SETS, 1)  # fmt: skip


def read(tmp_path, text):
    path = tmp_path / "deviations.toml"
    path.write_text(text)
    return deviations.read(path)


def row(verdict, quantity="gradient", tensor="usual: x"):
    return Judgement(quantity, tensor, math.inf, None, None, verdict, "numpy")


def test_a_divergence_that_is_known_is_a_deviation_with_its_reason(tmp_path):
    (entry,) = read(tmp_path, ENTRY)
    assert entry.affects(CASE, RAN)
    made = deviations.explain([row("divergent"), row("identical", "output")], [entry])
    assert [r.verdict for r in made.rows] == ["deviation", "identical"]
    assert made.rows[0].reason == "known: the kernel rounds (https://example.org/1)"
    assert (made.stale, made.absent) == ([], [])


def test_another_divergence_is_not_excused(tmp_path):
    (entry,) = read(tmp_path, ENTRY)
    made = deviations.explain([row("divergent"), row("divergent", "output")], [entry])
    assert made.rows[1].verdict == "divergent"


def test_an_entry_that_is_not_true_any_more_is_stale(tmp_path):
    (entry,) = read(tmp_path, ENTRY)
    assert deviations.explain([row("rounding-equal")], [entry]).stale == [
        "a known deviation is stale: gradient usual: x is rounding-equal, but 'the kernel rounds'; "
        "remove its entry, or say in `where` on which machines it shows"
    ]


def test_an_entry_that_shows_sometimes_is_absent_and_not_stale(tmp_path):
    (entry,) = read(tmp_path, ENTRY + 'shows = "sometimes"\n')
    made = deviations.explain([row("rounding-equal")], [entry])
    assert made.stale == []
    assert made.absent == [
        "a known deviation did not show this time: gradient usual: x is rounding-equal, but "
        "'the kernel rounds'"
    ]
    assert deviations.explain([row("divergent")], [entry]).rows[0].verdict == "deviation"


@pytest.mark.parametrize(
    ("where", "holds"),
    [
        ('vendors = ["GenuineIntel", "HygonGenuine"]', True),
        ('vendors = ["AuthenticAMD"]', False),
        ('requires = ["avx512_fp16"]', True),
        ('library = "onednn", requires = ["avx512_fp16"]', False),  # held down there
        ('library = "onednn", requires = ["avx512f"], lacks = ["avx512_fp16"]', True),
        ('library = "onednn", lacks = ["avx512f"]', False),
        ('library = "mlas", requires = ["avx2"]', False),
        ('threads = "==1"', True),
        ('threads = ">=2"', False),
        ("builds = {onednn = '>=3.7,<4'}", True),
        ("builds = {onednn = '>=3.8'}", False),
        ("builds = {mkl = '>=2024'}", False),
    ],
)
def test_an_entry_is_about_the_machines_of_its_condition_alone(tmp_path, where, holds):
    (entry,) = read(tmp_path, f"{ENTRY}where = {{{where}}}\n")
    assert entry.affects(CASE, RAN) is holds


def test_what_does_not_run_is_not_stale(tmp_path):
    (entry,) = read(tmp_path, ENTRY)
    assert deviations.explain([row("unsupported")], [entry]).stale == []


@pytest.mark.parametrize(
    ("change", "versions"),
    [
        ({"mode": "infer", "suite": "traps"}, {"tensorflow": "2.21.0"}),
        ({"precision": "fp64"}, {"tensorflow": "2.21.0"}),
        ({"model": "relu"}, {"tensorflow": "2.21.0"}),
        ({}, {"tensorflow": "2.19.1"}),
        ({}, {"tensorflow": "unknown"}),
        ({}, {}),
    ],
)
def test_an_entry_is_about_its_cases_and_versions_alone(tmp_path, change, versions):
    (entry,) = read(tmp_path, ENTRY)
    ran = dataclasses.replace(RAN, versions=versions)
    assert not entry.affects(dataclasses.replace(CASE, **change), ran)


@pytest.mark.parametrize(("framework", "execution", "meant"), [
    ("tensorflow", "graph", True), ("tensorflow", "xla", False), ("jax", "graph", False),
])  # fmt: skip
def test_an_entry_is_about_a_framework_whatever_the_adapter_s_name(
    tmp_path, framework, execution, meant
):
    (entry,) = read(tmp_path, ENTRY)
    ran = dataclasses.replace(RAN, framework=framework, execution=execution)
    assert entry.affects(dataclasses.replace(CASE, adapter="my_backend"), ran) is meant


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('reason = "the kernel rounds"', "", "reason is None, but should be a string"),
        ('reason = "the kernel rounds"', 'reason = ""', "reason is empty"),
        ('rows = ["gradient usual: *"]', "rows = 3", "rows is 3, but should be a list of strings"),
        ('">=2.20,<3"', '"new"', "Invalid specifier"),
        ("suite =", "suit =", "has 'suit', but should have framework, versions"),
        ("subject =", 'shows = "often"\nsubject =', "shows is 'often', but should be one of"),
        ("subject =", "where = 3\nsubject =", "where is 3, but should be a table"),
        (
            "subject =",
            "where = {cpu = 'AMD'}\nsubject =",
            "where has 'cpu', but should have vendors",
        ),
        ("subject =", "where = {threads = 'one'}\nsubject =", "Invalid specifier"),
        ("[[deviation]]", "[[deviation", "cannot be read"),
    ],
)
def test_a_wrong_file_is_refused_with_the_reason(tmp_path, old, new, told):
    with pytest.raises(DeviationError, match=r"deviations.toml") as error:
        read(tmp_path, ENTRY.replace(old, new))
    assert told in str(error.value)


def test_the_project_s_own_entries_name_rows_that_there_are_and_findings():
    ways = {("torch", "eager"), ("torch", "inductor"), ("tensorflow", "graph"),
            ("tensorflow", "xla"), ("jax", "xla"), ("onnxruntime", "graph"),
            ("litert", "graph")}  # fmt: skip
    from suites.conformance import (
        autodiff,
        compositions,
        control,
        integers,
        operations,
        sizes,
        threads,
        traps,
    )
    from suites.session import DEVIATIONS

    tables = {
        "operations": operations,
        "compositions": compositions,
        "sizes": sizes,
        "integers": integers,
        "autodiff": autodiff,
        "control": control,
        "threads": threads,
        "traps": traps,
    }
    findings = (DEVIATIONS.parents[2] / "docs" / "findings.md").read_text().splitlines()
    anchors = {anchor(line) for line in findings if line.startswith("## ")}
    for entry in deviations.read(DEVIATIONS):
        assert entry.framework in {framework for framework, _ in ways}
        assert {(entry.framework, each) for each in entry.executions} <= ways, entry.executions
        assert {*entry.where.requires, *entry.where.lacks} <= {*INSTRUCTION_SETS}, entry.where
        assert entry.where.library in ("", *isa.SWITCHES), entry.where
        rows = _rows(entry, tables)
        for pattern in entry.rows:
            assert any(fnmatchcase(name, pattern) for name in rows), (pattern, entry.subject)
        page, _, place = entry.link.partition("#")
        assert page == "docs/findings.md"
        assert place in anchors, place


def _rows(entry, tables):
    """The names of the rows of an entry's cases: results of exercises, or tensors of models."""
    if entry.suite not in tables:
        own = [models.get(name) for name in models.names() if fnmatchcase(name, entry.subject)]
        return {f"outcome {status}" for status in ENDS} | {
            f"layer {tensor}"
            for model in own
            for tensor in model.initial(model.config("tiny", 0), np.random.default_rng(0))[0]
        }
    own = [e for e in tables[entry.suite].exercises() if fnmatchcase(e.subject, entry.subject)]
    results = [(e, name) for e in own for name in [*exercises.expected(e), "output"]]
    return {" ".join(examination.label(exercise, name)) for exercise, name in results} | {
        f"again {exercise.name}: {name.replace(':', ' ')}" for exercise, name in results
    }


def anchor(heading):
    """As GitHub makes it."""
    text = heading.removeprefix("## ").lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def test_an_entry_for_an_exercise_that_failed_as_a_whole_is_stale_once_it_has_results(tmp_path):
    (entry,) = read(tmp_path, ENTRY.replace("gradient usual: *", "output usual"))
    made = deviations.explain([row("identical"), row("identical", tensor="odd: x")], [entry])
    assert made.stale == [
        "a known deviation is stale: usual no longer fails, but 'the kernel rounds'; "
        "remove its entry, or say in `where` on which machines it shows"
    ]
    for honest in (row("identical", tensor="odd: x"), row("unsupported"), row("divergent")):
        assert deviations.explain([honest], [entry]).stale == []
    made = deviations.explain([row("divergent", "output", "usual")], [entry])
    assert (made.rows[0].verdict, made.stale) == ("deviation", [])
