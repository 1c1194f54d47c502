"""Known deviations excuse what they name, as long as it is true."""

import dataclasses
import math
import re
from fnmatch import fnmatchcase

import pytest

from numerics import deviations, examination, exercises
from numerics.deviations import DeviationError
from numerics.judge import Judgement
from results.records import Case

ENTRY = """
[[deviation]]
adapters = ["tf_*"]
versions = {tensorflow = ">=2.20,<3"}
suite = "operations"
subject = "gelu"
precisions = ["fp32"]
rows = ["gradient usual: *"]
reason = "the kernel rounds"
link = "https://example.org/1"
"""
CASE = Case("operations", "train", "gelu", "tiny", "tf_graph", "cpu", "fp32", 1)


def read(tmp_path, text):
    path = tmp_path / "deviations.toml"
    path.write_text(text)
    return deviations.read(path)


def row(verdict, quantity="gradient", tensor="usual: x"):
    return Judgement(quantity, tensor, math.inf, None, None, verdict, "numpy")


def test_a_divergence_that_is_known_is_a_deviation_with_its_reason(tmp_path):
    (entry,) = read(tmp_path, ENTRY)
    assert entry.affects(CASE, {"tensorflow": "2.21.0"})
    rows, stale = deviations.explain([row("divergent"), row("identical", "output")], [entry])
    assert [r.verdict for r in rows] == ["deviation", "identical"]
    assert rows[0].reason == "known: the kernel rounds (https://example.org/1)"
    assert stale == []


def test_another_divergence_is_not_excused(tmp_path):
    (entry,) = read(tmp_path, ENTRY)
    rows, _ = deviations.explain([row("divergent"), row("divergent", "output")], [entry])
    assert rows[1].verdict == "divergent"


def test_an_entry_that_is_not_true_any_more_is_stale(tmp_path):
    (entry,) = read(tmp_path, ENTRY)
    _, stale = deviations.explain([row("rounding-equal")], [entry])
    assert stale == [
        "a known deviation is stale: gradient usual: x is rounding-equal, but 'the kernel rounds'; "
        "remove its entry"
    ]


def test_what_does_not_run_is_not_stale(tmp_path):
    (entry,) = read(tmp_path, ENTRY)
    assert deviations.explain([row("unsupported")], [entry])[1] == []


@pytest.mark.parametrize(
    ("change", "versions"),
    [
        ({"adapter": "jax_jit"}, {"tensorflow": "2.21.0"}),
        ({"precision": "fp64"}, {"tensorflow": "2.21.0"}),
        ({"model": "relu"}, {"tensorflow": "2.21.0"}),
        ({}, {"tensorflow": "2.19.1"}),
        ({}, {"tensorflow": "unknown"}),
        ({}, {}),
    ],
)
def test_an_entry_is_about_its_cases_and_versions_alone(tmp_path, change, versions):
    (entry,) = read(tmp_path, ENTRY)
    assert not entry.affects(dataclasses.replace(CASE, **change), versions)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('reason = "the kernel rounds"', "", "reason is None, but should be a string"),
        ('reason = "the kernel rounds"', 'reason = ""', "reason is empty"),
        ('rows = ["gradient usual: *"]', "rows = 3", "rows is 3, but should be a list of strings"),
        ('">=2.20,<3"', '"new"', "Invalid specifier"),
        ("suite =", "suit =", "has 'suit', but should have adapters, versions"),
        ("[[deviation]]", "[[deviation", "cannot be read"),
    ],
)
def test_a_wrong_file_is_refused_with_the_reason(tmp_path, old, new, told):
    with pytest.raises(DeviationError, match=r"deviations.toml") as error:
        read(tmp_path, ENTRY.replace(old, new))
    assert told in str(error.value)


def test_the_project_s_own_entries_name_rows_that_there_are_and_findings():
    from adapters.registry import BUILT_IN
    from suites.conformance import autodiff, control, operations, traps
    from suites.session import DEVIATIONS

    tables = {"operations": operations, "autodiff": autodiff, "control": control, "traps": traps}
    findings = (DEVIATIONS.parents[2] / "docs" / "findings.md").read_text().splitlines()
    anchors = {anchor(line) for line in findings if line.startswith("## ")}
    for entry in deviations.read(DEVIATIONS):
        assert any(fnmatchcase(name, p) for name in BUILT_IN for p in entry.adapters)
        own = [e for e in tables[entry.suite].exercises() if e.subject == entry.subject]
        rows = {
            " ".join(examination.label(exercise, name))
            for exercise in own
            for name in [*exercises.expected(exercise), "output"]
        }
        for pattern in entry.rows:
            assert any(fnmatchcase(name, pattern) for name in rows), (pattern, entry.subject)
        page, _, place = entry.link.partition("#")
        assert page == "docs/findings.md"
        assert place in anchors, place


def anchor(heading):
    """As GitHub makes it."""
    text = heading.removeprefix("## ").lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def test_an_entry_for_an_exercise_that_failed_as_a_whole_is_stale_once_it_has_results(tmp_path):
    (entry,) = read(tmp_path, ENTRY.replace("gradient usual: *", "output usual"))
    _, stale = deviations.explain([row("identical"), row("identical", tensor="odd: x")], [entry])
    assert stale == [
        "a known deviation is stale: usual no longer fails, but 'the kernel rounds'; "
        "remove its entry"
    ]
    for honest in (row("identical", tensor="odd: x"), row("unsupported"), row("divergent")):
        assert deviations.explain([honest], [entry])[1] == []
    rows, stale = deviations.explain([row("divergent", "output", "usual")], [entry])
    assert (rows[0].verdict, stale) == ("deviation", [])
