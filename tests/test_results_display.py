"""Numbers and names as people read them."""

import math

import pytest

from results import describe, display, store
from results.metrics import FLAGS
from results.records import VERDICTS
from tests import sample_run


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0, "s", "0 s"),
        (1.234e-8, "s", "12.3 ns"),
        (4.2e-5, "s", "42.0 µs"),
        (9.996e-4, "s", "1.00 ms"),
        (0.0123, "s", "12.3 ms"),
        (1.0, "s", "1.00 s"),
        (83.27, "s", "83.3 s"),
        (1234.0, "s", "1,230 s"),
        (512, "B", "512 B"),
        (1000, "B", "1,000 B"),
        (2**20, "B", "1.00 MiB"),
        (45.67 * 2**20, "B", "45.7 MiB"),
        (3.1e9, "B", "2.89 GiB"),
        (12345.6, "1/s", "12,300"),
        (0.0678, "1/s", "0.0678"),
        (1.0249, "1", "1.02×"),
        (math.nan, "s", "–"),
        (math.inf, "B", "∞"),
        (2.5e9, "FLOP", "2.50 GFLOP"),
        (0.0, "FLOP", "0 FLOP"),
        (4.2e11, "FLOP/s", "420 GFLOP/s"),
        (1.1e12, "OP/s", "1.10 TOP/s"),
        (2.4e10, "B/s", "24.0 GB/s"),
        (12344.2, "steps", "12,345 steps"),
        (1.0, "steps", "1 step"),
        (0.0, "steps", "0 steps"),
        (math.inf, "steps", "never"),
        (math.nan, "steps", "–"),
        (0.3749, "%", "37%"),
        (0.00421, "%", "0.42%"),
        (0.0, "%", "0%"),
    ],
)
def test_quantities(value, unit, text):
    assert display.quantity(value, unit) == text


def test_intervals_have_one_unit_and_enough_digits():
    assert display.interval(9.5e-4, 1.25e-3, "s") == "0.950 to 1.25 ms"
    assert display.interval(0.012341, 0.012349, "s") == "12.34 to 12.35 ms"
    assert display.interval(1.0, 1.0, "s") == "1.00 to 1.00 s"
    assert display.interval(math.nan, math.nan, "s") == "–"
    assert display.interval(0.0, math.inf, "s") == "at least 0 s"
    assert display.interval(0.361, 0.379, "%") == "36.1 to 37.9%"


def test_a_fraction_of_a_peak_is_in_percent_and_other_ratios_are_not():
    assert display.unit_of("peak_fraction", "1") == "%"
    assert display.unit_of("control_ratio", "1") == "1"


def test_every_flag_has_its_meaning_under_the_name_that_is_shown():
    assert display.flags(",".join(FLAGS)) == list(display.flag_meanings())


def test_errors():
    assert [display.error(value) for value in (1.234e-7, 0.0, math.inf, math.nan)] == [
        "1.23e-07", "0", "∞", "–",
    ]  # fmt: skip


def test_every_verdict_has_a_name():
    assert display.verdict("identical") == "identical (fp64)"
    assert all(display.verdict(name) for name in VERDICTS)


def test_long_names_keep_both_ends():
    short = display.shorten("a" * 10_000 + "end", 20)
    assert len(short) == 20
    assert short.endswith("end")
    assert display.shorten("name", 20) == "name"


def test_characters_that_command_a_terminal_become_visible():
    assert display.visible("\x1b[31m\u202eé\n") == "\\x1b[31m\\u202eé\\n"
    assert display.visible("a\nb\x00", keep="\n") == "a\nb\\x00"


def test_a_tensor_that_is_its_own_quantity_is_named_once():
    assert display.tensor("loss", "loss") == "loss"
    assert display.tensor("gradient", "fc/w") == "gradient fc/w"


def test_the_baseline_comes_first():
    assert display.table_order(["b", "c", "a", "c"], "c") == ["c", "a", "b"]
    assert display.table_order(["b", "a"], "c") == ["a", "b"]


def test_a_run_in_a_sentence(tmp_path):
    run = store.read(sample_run.write(tmp_path, hostile=False))
    assert describe.sentence(run) == (
        "290 of 336 cases ended ok; 23 unsupported, 4 divergent, 1 mistrusted, 3 failed, "
        "3 timeout, 8 out of memory, 3 crashed, 1 interrupted."
    )
    assert describe.started(run.environment) == "2025-11-20 17:18 UTC"
    assert describe.machine(run.environment) == "bench-1, Example CPU 9000 @ 3.0 GHz, 8 cores"
    assert describe.versions(run)["torch"] == "2.13.0"


def test_an_environment_of_another_shape_is_no_error():
    for environment in ({}, {"cpu": "Z80", "started": 7}, {"cpu": {"model": None}, "host": [1]}):
        assert isinstance(describe.machine(environment), str)
        assert isinstance(describe.started(environment), str)
    assert describe.machine({"cpu": "Z80"}) == "Z80"
    assert describe.started({"started": "yesterday"}) == "yesterday"


def test_nested_facts_become_pairs():
    facts = {"a": {"b": 1, "c": [1, 2]}, "d": [{"e": None}], "f": True, "g": {}}
    assert describe.flatten(facts) == [
        ("a.b", "1"), ("a.c", "1, 2"), ("d.0.e", ""), ("f", "yes"), ("g", ""),
    ]  # fmt: skip
    deep: dict = {}
    for _ in range(5000):
        deep = {"x": deep}
    assert len(describe.flatten(deep)) == 1
