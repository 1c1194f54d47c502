"""The section on quantization: what its table says of a program, that no case is left out, and that
no speed stands beside a divergent verdict."""

from dataclasses import replace

import pytest

from adapters import precisions
from reports import conformance, data, page
from reports.sections import performance, precision, quantization
from results import display
from results.metrics import METRICS
from results.records import Agreement, Case, Facts, Measurement, Outcome
from tests.pages import Page
from tests.test_reports_hostile import unsafe
from tests.test_reports_mixed import prepared

CASE = Case("quantization", "infer", "mlp", "small", "onnx_runtime", "cpu", "int8_static", 8)
BASE = replace(CASE, precision="fp32")
KERNEL = ["QLinearMatMul"]


def ended(case, status="ok", reason=""):
    return Outcome(case, status, reason, 1.0, "pytest")


def rows(case, verdict="rounding-equal"):
    told = "61.20% exact, at most 3 LSB" if verdict == "divergent" else "99.98% exact"
    row = (2e-3, None, None, verdict, "integer oracle in numpy", told)
    yield Agreement(case, "layer", "fc1/w", *row)


def measured(case, verdict="rounding-equal", **figures):
    """A case that ended as its verdict says; a tuple of figures is the rounds."""
    yield from rows(case, verdict)
    for metric, values in figures.items():
        listed = values if isinstance(values, tuple) else (values,)
        yield Measurement(case, metric, METRICS[metric][0], listed)
    bad = verdict == "divergent"
    yield ended(case, "divergent" if bad else "ok", "layer fc1/w: 61.20% exact" * bad)


def assessed(case, sqnr=39.0, size=1e5, verdict="rounding-equal", **more):
    quality = {"sqnr": sqnr, "top1_agreement": 255 / 256, "kl_divergence": 2.5e-4, "score": 0.97,
               "score_lost": 0.004, "artifact_bytes": size}  # fmt: skip
    yield from measured(case, verdict, **(quality | more))


def timed(case, seconds, verdict="rounding-equal", wobble=0.01):
    case = replace(case, suite="performance")
    rounds = tuple(seconds * (1 + wobble * (i - 7.5) / 7.5) for i in range(16))
    yield from measured(case, verdict, step_time=rounds)


def remembered(case, peak):
    parts = {"host_peak_bytes": peak, "parameter_bytes": peak / 10}
    yield from measured(replace(case, suite="memory"), **parts)


def paired(case, ratio, verdict="rounding-equal"):
    rounds = tuple(ratio * (1 + 0.01 * (i - 7.5) / 7.5) for i in range(16))
    yield from measured(replace(case, suite="speedup"), verdict, speedup=rounds)


def usual(case=CASE):
    """A program that is twice as fast as fp32, and fp32."""
    for each, seconds, size, sqnr in ((replace(case, precision="fp32"), 2e-3, 4e5, 135.0),
                                      (case, 1e-3, 1e5, 39.0)):  # fmt: skip
        lost = {"score_lost": 0.0} if each.precision == "fp32" else {}
        yield from assessed(each, sqnr, size, **lost)
        yield from timed(each, seconds)
        yield from remembered(each, 100 * size)
    yield Facts(case, {"integer_kernels": KERNEL, "quality": QUALITY})


RANGE = {"low": -1.0, "high": 2.0, "scale": 0.0118}
QUALITY = {"score": "accuracy", "examples": 256, "trained_steps": 800, "share": 0.98,
           "left_in_float": ["fc3/w"], "layers": {"fc1/w": 43.1, "fc2/w": 40.2},
           "sensitivity": {"": 39.0, "fc1/w": 39.5, "fc2/w": 44.0},
           "calibration": {"method": "min-max", "batches": 4, "examples": 32,
                           "of": "training examples",
                           "ranges": {"fc1/w": RANGE}}}  # fmt: skip


def panels(*parts):
    return quantization.quantization(prepared(*parts))


def results(*parts) -> dict[tuple[str, str], dict]:
    """(adapter, precision) -> {column: cell} of the only model; for rows without cells: the row."""
    (panel,) = [p for p in panels(*parts) if p.title != "All models"]
    return lines(panel.exhibits[0].table)


def lines(table) -> dict[tuple[str, str], dict]:
    names = [column.name for column in table.columns[1:]]
    found, adapter = {}, ""
    for row in table.rows:
        adapter = row.name if row.heading else adapter
        if not row.heading:
            cells = dict(zip(names, row.cells, strict=True)) if row.cells else {"": row}
            found[adapter, row.name] = cells
    return found


def texts(cells) -> dict[str, str]:
    return {name: cell.badge.text if cell.badge else cell.text for name, cell in cells.items()}


def shown_on_page(*parts) -> str:
    return page.render([prepared(*parts).run]).replace(page.get_plotlyjs(), "")


# -- the table -------------------------------------------------------------------------------------


def test_a_row_has_verdict_quality_size_speed_memory_and_integers():
    cells = results(usual())["onnx_runtime", "int8_static"]
    assert texts(cells) == {
        "Verdict": "rounding-equal", "SQNR": "39.0 dB", "Top-1": "99.6%", "Score": "0.970",
        "File": "97.7 KiB", "Step": "1.00 ms", "vs fp32": "faster 2.00×",
        "Peak memory": "9.54 MiB", "Held": "977 KiB", "In integers": "98.0%",
    }  # fmt: skip
    assert {name: cell.small for name, cell in cells.items() if cell.small} == {
        "Top-1": ("KL 2.5e-04",), "Score": ("0.0040 lost",), "File": ("4.00× smaller",),
        "Step": ("0.994 to 1.01 ms",), "vs fp32": ("1.98 to 2.02×",),
        "Peak memory": ("0.250×",), "Held": ("0.250×",), "In integers": ("QLinearMatMul",),
    }  # fmt: skip
    assert cells["Verdict"].more == ("layer fc1/w: 99.98% exact",)
    assert cells["In integers"].more == (
        "kernel: QLinearMatMul", "left in floating point: fc3/w",
    )  # fmt: skip
    base = results(usual())["onnx_runtime", "fp32"]
    assert (base["vs fp32"].text, base["File"].small, base["In integers"].text) == ("–", (), "–")
    assert base["Score"].small == ("none lost",)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(1e-3, "faster 2.00×"), (4e-3, "slower 0.500×"), (1.999e-3, "undecided 1.00×")],
)
def test_what_does_not_pay_is_called_slower(seconds, said):
    parts = [*timed(BASE, 2e-3), *timed(CASE, seconds)]
    assert results(parts)["onnx_runtime", "int8_static"]["vs fp32"].text == said


def test_paired_rounds_are_better_than_two_step_times():
    cells = results([*usual(), *paired(CASE, 1.7)])["onnx_runtime", "int8_static"]
    assert (cells["vs fp32"].text, cells["vs fp32"].small) == ("faster 1.70×", ("1.69 to 1.71×",))
    assert "paired rounds" in cells["vs fp32"].hint
    alone = results(paired(CASE, 0.8))["onnx_runtime", "int8_static"]
    assert texts(alone) == {"Verdict": "rounding-equal", "vs fp32": "slower 0.800×"}


def test_a_speed_without_an_interval_says_so():
    def once(case, seconds):
        return measured(replace(case, suite="performance"), step_time=seconds)

    cells = results(once(BASE, 3e-3), once(CASE, 1e-3))["onnx_runtime", "int8_static"]
    assert (cells["vs fp32"].text, cells["vs fp32"].small) == ("faster 3.00×", ("no interval",))


def test_each_adapter_is_compared_with_itself():
    other = replace(CASE, adapter="torch_eager")
    parts = [*usual(), *timed(replace(other, precision="fp32"), 1e-3), *timed(other, 2e-3)]
    found = results(parts)
    assert found["onnx_runtime", "int8_static"]["vs fp32"].text == "faster 2.00×"
    assert found["torch_eager", "int8_static"]["vs fp32"].text == "slower 0.500×"


def test_255_of_256_are_not_all_and_a_larger_file_is_called_larger():
    parts = [*assessed(BASE, size=1e5), *assessed(CASE, size=2e5, top1_agreement=2047 / 2048,
                                                  score_lost=-0.004)]  # fmt: skip
    cells = results(parts)["onnx_runtime", "int8_static"]
    assert cells["Top-1"].text == "99.9%"
    assert cells["File"].small == ("2.00× larger",)
    assert cells["Score"].small == ("0.0040 gained",)


def test_flags_of_either_figure_mark_a_ratio_and_its_row():
    noisy = [replace(r, flags=("noisy",)) if isinstance(r, Measurement) else r
             for r in timed(BASE, 2e-3)]  # fmt: skip
    found = prepared(noisy, timed(CASE, 1e-3))
    (panel,) = quantization.quantization(found)
    _, _, row = panel.exhibits[0].table.rows
    assert row.flags == ("noisy",)
    assert [cell.flags for cell in row.cells[1:3]] == [(), ("noisy",)]


# -- verdicts --------------------------------------------------------------------------------------


def test_no_speed_stands_beside_a_divergent_verdict():
    """Although the program that was timed agrees, on other parameters."""
    parts = [*usual(BASE), *assessed(CASE, 12.3, verdict="divergent"), *timed(CASE, 0.4567e-3),
             *remembered(CASE, 7.77e8), *paired(CASE, 4.321)]  # fmt: skip
    cells = results(parts)["onnx_runtime", "int8_static"]
    assert cells["Verdict"].badge.text == "divergent"
    assert cells["Verdict"].small == ("quantization suite", "layer fc1/w: 61.20% exact")
    assert "layer fc1/w: 61.20% exact, at most 3 LSB" in cells["Verdict"].more
    assert {cell.text for name, cell in cells.items() if name != "Verdict"} == {"–"}
    html = shown_on_page(parts)
    assert not [figure for figure in ("457 µs", "741 MiB", "4.32", "12.3 dB") if figure in html]


@pytest.mark.parametrize("suite", ["performance", "memory", "speedup"])
def test_a_divergent_program_in_any_suite_has_no_speed(suite):
    wrong = list(measured(replace(CASE, suite=suite), "divergent"))
    kept = [r for r in usual() if r.case != replace(CASE, suite=suite)]
    cells = results(kept, wrong)["onnx_runtime", "int8_static"]
    assert cells["Verdict"].badge.text == "divergent"
    assert cells["SQNR"].text == "39.0 dB"  # of a program that agrees
    assert {cells[name].text for name in ("Step", "vs fp32", "Peak memory")} == {"–"}
    assert panels(kept, wrong)[0].exhibits[0].chart is None


def test_fp32_that_diverges_is_compared_with_by_nobody():
    kept = [r for r in usual() if r.case != BASE]
    parts = [*kept, *assessed(BASE, verdict="divergent"), *paired(CASE, 1.7)]
    cells = results(parts)["onnx_runtime", "int8_static"]
    assert (cells["Step"].text, cells["vs fp32"].text) == ("1.00 ms", "–")
    assert cells["Peak memory"].small == ()


def test_without_fp32_there_is_a_speed_but_nothing_to_compare_with():
    cells = results([*assessed(CASE), *timed(CASE, 1e-3)])["onnx_runtime", "int8_static"]
    assert (cells["Step"].text, cells["vs fp32"].text) == ("1.00 ms", "–")
    assert cells["vs fp32"].hint == "nothing in fp32 to compare with"
    assert (cells["File"].text, cells["File"].small) == ("97.7 KiB", ())


def test_unsupported_precisions_are_one_row_per_reason_and_link_nowhere():
    names = ("int8_qat", "fp8_dynamic", "int16_static")
    reasons = ("no integers\nsecond line", "no integers\nsecond line", "no kernel of 16 bits")
    parts = [*usual(), *(ended(replace(CASE, precision=name, suite=suite), "unsupported", why)
                         for name, why in zip(names, reasons, strict=True)
                         for suite in ("quantization", "performance"))]  # fmt: skip
    found = results(parts)
    several, one = (found["onnx_runtime", name][""] for name in ("2 precisions", "int16_static"))
    assert several.why == "int8_qat, fp8_dynamic: no integers\nsecond line"
    assert (one.why, one.badge.text, one.anchor) == ("no kernel of 16 bits", "unsupported", "")
    shown = Page(page.render([prepared(parts).run]))
    assert unsafe(shown) == []
    assert "int8_qat, fp8_dynamic: no integers second line" in shown.text
    assert "What else is unsupported, by reason" in shown.text
    assert shown.text.count("Every case that did not end ok") == 0


@pytest.mark.parametrize("status", ["failed", "crashed", "timeout", "out_of_memory", "interrupted"])
def test_every_case_has_its_row_whatever_became_of_it(status):
    suites = ("quantization", "performance", "memory", "speedup")
    gone = [ended(replace(CASE, suite=suite), status, "signal 11") for suite in suites]
    for parts in (gone, *([one] for one in gone)):
        cells = results(parts)["onnx_runtime", "int8_static"]
        assert cells["Verdict"].badge.text == display.status(status)
        assert cells["Verdict"].small == ("signal 11",)
    assert unsafe(Page(page.render([prepared(gone).run]))) == []


def test_a_suite_that_crashed_is_named_and_takes_no_other_figure_away():
    kept = [r for r in usual() if r.case.suite != "performance"]
    gone = ended(replace(CASE, suite="performance"), "crashed", "signal 11")
    cells = results([*kept, gone])["onnx_runtime", "int8_static"]
    assert cells["Verdict"].small == ("performance suite", "signal 11")
    assert (cells["SQNR"].text, cells["Peak memory"].text) == ("39.0 dB", "9.54 MiB")


# -- the other sections ----------------------------------------------------------------------------


def test_the_quantized_precisions_of_the_page_are_those_of_the_adapters():
    quantized = [name for name, p in precisions.PRECISIONS.items() if p.scheme is not None]
    assert list(data.QUANTIZED) == quantized


def test_other_sections_leave_quantized_programs_to_this_one():
    found = prepared(usual(), timed(replace(CASE, precision="bf16"), 1e-3))
    assert {m.suite for m in conformance.matrices(found)} == {"performance", "memory"}
    titles = [block.title for m in conformance.matrices(found) for block in m.blocks]
    assert not any("int8" in title for title in titles)
    for make in (performance.throughput, performance.memory, precision.precision):
        told = repr(make(found))
        assert "fp32" in told
        assert "int8" not in told
    html = Page(page.render([found.run]))
    assert unsafe(html) == []
    assert f"quantization/{CASE.key}" in html.ids


def test_paired_rounds_give_other_precisions_an_interval_too():
    base, lower = (replace(CASE, suite="performance", precision=n) for n in ("fp32", "bf16"))
    speeds = [*measured(base, throughput=(100.0,) * 16), *measured(lower, throughput=(150.0,) * 16),
              *paired(lower, 1.4)]  # fmt: skip
    rows_ = lines(precision.precision(prepared(speeds))[0].exhibits[0].table)
    cell = rows_["onnx_runtime", "bf16"]["vs fp32"]
    assert (cell.text, cell.small) == ("1.40×", ("1.39 to 1.41×",))
    wrong = [*speeds, *measured(replace(base, suite="memory"), "divergent")]
    rows_ = lines(precision.precision(prepared(wrong))[0].exhibits[0].table)
    assert rows_["onnx_runtime", "bf16"]["vs fp32"].text == "1.50×"  # of what was timed alone


def test_what_was_asked_for_in_fp32_alone_is_no_panel():
    assert panels(timed(BASE, 1e-3)) == []
    assert len(panels(assessed(BASE))) == 1  # else nobody would show it


def test_configuration_has_dtypes_of_weights_by_dtype_and_no_quality():
    facts = {"weight_dtypes": {"fc1/w": "int8", "fc2/w": "int8"}, "quality": QUALITY}
    (view,) = prepared([Facts(CASE, facts), *assessed(CASE)]).cases
    assert view.configuration == ({"weight_dtypes": {"int8": ["fc1/w", "fc2/w"]}},)


def test_scores_are_no_ratios_in_other_tables():
    for metric in ("top1_agreement", "score", "score_lost"):
        unit = display.unit_of(metric, METRICS[metric][0])
        assert display.quantity(-0.25, unit) == "-0.250"
    assert display.quantity(43.25, METRICS["sqnr"][0]) == "43.2 dB"
