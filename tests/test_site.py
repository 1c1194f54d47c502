"""The site from stored runs: every page is there, every link leads somewhere, nothing a record says
becomes markup, and the same records give the same bytes."""

import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import reports
from reports import matrix, shown, site
from reports.__main__ import main
from reports.anchors import anchor
from reports.data import prepare
from reports.sections import versus
from results import store, trial
from results.records import Agreement, Case, Claim, Decision, Measurement, Outcome
from results.store import RunWriter, StoreError
from tests import sample_run
from tests.pages import Page

FINGERPRINT = {"fingerprint": {"id": "m1", "cpu": "example"}}
TRIAL = """\
kind,name,adapter,model,mode,recipe,precision,quantity,tensor,error,floor,ratio,verdict
fault,gelu_tanh_swapped,jax_jit,vit,train,,fp64,output,logits,0.1,1e-9,9e7,divergent
fault,gelu_tanh_swapped,jax_jit,vit,train,,fp32,output,logits,0.1,1e-6,9e4,divergent
fault,missed_one,tf_graph,mlp,train,,fp64,output,logits,1e-9,1e-9,1,rounding-equal
honest,3,jax_jit,vit,train,,fp64,output,logits,1e-16,1e-9,1e-7,identical
"""


def case(adapter="torch_eager", model="mlp", suite="performance", **more):
    fields = {"mode": "train", "size": "small", "device": "cpu", "precision": "fp32", "batch": 8}
    return Case(suite=suite, model=model, adapter=adapter, **(fields | more))


def agreed(of, verdict="rounding-equal"):
    return Agreement(of, "output", "logits", 1e-7, 1e-7, 1.0, verdict, "consensus")


def timed(of, step, processes=3, spread=0.004):
    """A case whose processes differ a little."""
    yield agreed(of)
    for process in range(processes):
        values = tuple(step * (1 + spread * (process - 1) + 1e-4 * n) for n in range(8))
        yield Measurement(of, "step_time", "s", values, 10, process)
        rates = tuple(of.batch / value for value in values)
        yield Measurement(of, "throughput", "1/s", rates, 10, process)
    yield Outcome(of, "ok", "", 1.0, f"pytest suites/performance --case {of.key}")


def write(root, run_id, records, **environment):
    told = {"started": run_id, **FINGERPRINT, **environment}
    writer = RunWriter(root, run_id, told)
    for record in records:
        writer.append(record)
    writer.close()
    return root / run_id


def models(speeds, names=("mlp", "convnet", "vit")):
    """A run in which every adapter trains every model."""
    for model in names:
        for adapter, speed in speeds.items():
            yield from timed(case(adapter, model), 0.01 / speed)


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    """A site of one run with everything in it."""
    folder = tmp_path_factory.mktemp("site")
    run = sample_run.write(folder, exercises=True, quantized=True)
    (run / "self_test.csv").write_text(TRIAL)
    reports.build([run], folder / "out")
    return folder / "out"


@pytest.fixture(scope="module")
def several(tmp_path_factory) -> Path:
    """A site of eight runs of one machine, whose level changes with a version, and one of
    another."""
    root = tmp_path_factory.mktemp("runs")
    folders = []
    for number in range(8):
        version = "2.12.0" if number < 4 else "2.13.0"
        speeds = {"torch_eager": 1.0, "jax_jit": 1.5 if number < 4 else 1.2}
        folders.append(
            write(root, f"2026010{number + 1}-000000", models(speeds), python="3.12",
                  versions={"torch": version})
        )  # fmt: skip
    other = write(root, "20260101-120000", models({"torch_eager": 3.0}),
                  fingerprint={"id": "m2"}, host="other")  # fmt: skip
    reports.build([*folders, other], root / "out", base_url="https://example.org/assay/")
    return root / "out"


def pages_of(out):
    return sorted(out.rglob("*.html"))


def dead_links(out):
    """(page, link) of links that lead nowhere."""
    ids = {path: set(Page.of(path).ids) for path in pages_of(out)}
    found = []
    for path in ids:
        page = Page.of(path)
        for link in [*page.links, *page.loads]:
            parts = urlsplit(link)
            if parts.scheme in ("data", "https"):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            known = ids.get(target, ()) if parts.fragment else [""]
            if not target.is_file() or unquote(parts.fragment) not in known:
                found.append((path.name, link))
    return found


# -- every page ------------------------------------------------------------------------------------


def test_every_link_leads_somewhere(sample, several):
    assert dead_links(sample) == []
    assert dead_links(several) == []


def test_a_dead_link_is_found(tmp_path):
    (tmp_path / "a.html").write_text('<a href="b.html">b</a><a href="#there">c</a><p id="here">')
    assert dead_links(tmp_path) == [("a.html", "b.html"), ("a.html", "#there")]


def test_every_page_is_well_formed_and_runs_its_own_scripts_only(sample, several):
    for path in [*pages_of(sample), *pages_of(several)]:
        page = Page.of(path)
        assert page.problems == [], path
        assert page.handlers == [], path
        assert len(page.ids) == len(set(page.ids)), path
        assert {kind for kind, text in page.scripts if text.strip()} <= {"application/json"}, path
        assert not [link for link in page.links if link.startswith("javascript:")], path
        assert "style" not in page.tags
        assert "default-src 'none'; style-src 'self'" in path.read_text()


def test_every_case_has_a_page_at_its_key(sample):
    run = store.read(next(sample.parent.glob("2025*")))
    found = {
        Page.of(path).text
        for path in (sample / shown.UNKNOWN / "cases" / "performance").rglob("*.html")
    }
    assert len(found) == len({o.case for o in run.outcomes if o.case.suite == "performance"})
    path = sample / shown.UNKNOWN / "cases/performance/train/vit/small/jax_jit/cpu/fp32/b8.html"
    text = Page.of(path).text
    for part in (
        "train/vit/small/jax_jit/cpu/fp32/b8", "Run it alone", "In every adapter", "Figures",
        "Every round", "process 2", "Agreement", "How it ran", "Example CPU 9000",
    ):  # fmt: skip
        assert part in text


def test_hostile_names_cannot_leave_the_folder():
    for name in ("../../etc", "/etc/passwd", "a/../../b", "..", "a//b", "x" * 10_000, "\0"):
        place = anchor("cases", name)
        assert not place.startswith("/")
        assert not {"", ".", ".."} & set(place.split("/"))
        assert len(place) < 150
    assert anchor("a//b") != anchor("a/_/b")


def test_hostile_records_are_text_on_every_page(sample):
    for path in pages_of(sample):
        # a command is whole, so that it can be copied
        text = re.sub("<code>.*?</code>", "", path.read_text(encoding="utf-8"))
        assert "<script>alert" not in text, path
        assert "<b>bold" not in text, path
        assert not any(mark in text for mark in ("\u202e", "\x1b", "\0")), path
        assert "x" * 1_000 not in text, path


# -- the overview ----------------------------------------------------------------------------------


def tables_of(records, tmp_path, **more):
    folder = write(tmp_path, "20260101-000000", records)
    return matrix.tables(prepare(store.read(folder)), **more)


def row(table, model):
    found = next(row for row in table.rows if row.model == model)
    return dict(zip(table.adapters, found.spots, strict=True))


def test_a_cell_has_the_verdict_and_the_relative_speed(tmp_path):
    (table,) = tables_of(models({"torch_eager": 1.0, "jax_jit": 1.5}), tmp_path)
    cell = row(table, "vit")["jax_jit"]
    assert (table.title, table.baseline) == ("train, fp32, cpu", "torch_eager")
    assert cell.badge.text == "rounding-equal"
    assert cell.speed.relative == pytest.approx(1.5)
    assert cell.speed.apart is True
    assert row(table, "vit")["torch_eager"].speed.relative is None
    assert table.mean.ratios == (None or pytest.approx(1.0), pytest.approx(1.5))
    assert (table.mean.models, table.mean.of) == (3, 3)


def test_speeds_whose_intervals_overlap_are_not_told_apart(tmp_path):
    (table,) = tables_of(models({"torch_eager": 1.0, "jax_jit": 1.002}), tmp_path)
    assert row(table, "mlp")["jax_jit"].speed.apart is False


def test_what_is_wrong_anywhere_has_no_speed(tmp_path):
    wrong = case("jax_jit", "vit", suite="conformance", size="tiny", batch=2)
    records = [
        *models({"torch_eager": 1.0, "jax_jit": 1.5}), agreed(wrong, "divergent"),
        Outcome(wrong, "divergent", "the gradient is off", 1.0, "-"),
    ]  # fmt: skip
    (table,) = tables_of(records, tmp_path)
    cell = row(table, "vit")["jax_jit"]
    assert (cell.badge.text, cell.speed, cell.why) == ("divergent", None, "the gradient is off")
    assert row(table, "mlp")["jax_jit"].speed is not None
    # two models are left in common, which is too few for a mean
    assert (table.mean.models, table.mean.of) == (2, 3)
    assert table.mean.ratios == (None, None)


def test_a_mean_is_over_what_all_adapters_share(tmp_path):
    records = [
        *models({"torch_eager": 1.0, "jax_jit": 2.0}, ("mlp", "convnet", "vit")),
        *timed(case("torch_eager", "lstm"), 0.01), *timed(case("jax_jit", "lstm"), 0.0001),
        *timed(case("tf_xla", "mlp"), 0.02), *timed(case("tf_xla", "vit"), 0.02),
        *timed(case("tf_xla", "convnet"), 0.02),
    ]  # fmt: skip
    (table,) = tables_of(records, tmp_path)
    assert (table.mean.models, table.mean.of) == (3, 4)
    means = dict(zip(table.adapters, table.mean.ratios, strict=True))
    assert means["jax_jit"] == pytest.approx(2.0)  # lstm, 100 times as fast, is not shared
    assert means["tf_xla"] == pytest.approx(0.5)


def test_the_baseline_is_one_that_has_a_speed(tmp_path):
    (table,) = tables_of(models({"jax_jit": 1.0, "tf_xla": 0.5}), tmp_path)
    assert table.baseline == "jax_jit"
    assert row(table, "mlp")["tf_xla"].speed.relative == pytest.approx(0.5)


def test_an_interrupted_case_says_so_and_leaves_the_speed(tmp_path):
    stopped = case(suite="memory")
    records = [*models({"torch_eager": 1.0}), Outcome(stopped, "interrupted", "Ctrl-C", 1.0, "-")]
    (table,) = tables_of(records, tmp_path)
    cell = row(table, "mlp")["torch_eager"]
    assert cell.badge.text == "interrupted"
    assert cell.speed is not None


def test_comparisons_and_exercises_are_no_models(tmp_path):
    records = [*models({"torch_eager": 1.0}), *timed(case(suite="gate", model="gated"), 0.01),
               *timed(case(suite="operations", model="relu"), 0.01)]  # fmt: skip
    (table,) = tables_of(records, tmp_path)
    assert [row.model for row in table.rows] == ["convnet", "mlp", "vit"]


def test_the_front_page_says_what_was_run_where_and_when(sample):
    text = Page.of(sample / "index.html").text
    for part in (
        "bench-1, Example CPU 9000 @ 3.0 GHz, 8 cores", "cases ended ok", "2025-11-20 17:18 UTC",
        "torch 2.13.0", "pytest suites --benchmark --preset standard", "train, fp32, cpu",
        "1.00×", "baseline", "divergent", "unsupported", "withheld",
    ):  # fmt: skip
        assert part in text


# -- several runs ----------------------------------------------------------------------------------


def test_the_newest_run_of_each_machine_is_shown(several):
    text = Page.of(several / "index.html").text
    assert "the newest of 8" in text
    assert "Run 20260108-000000" in text
    assert "Run 20260101-120000" in text
    assert (several / "m1/cases.html").is_file()
    assert (several / "m2/cases.html").is_file()
    assert "1.20×" in text
    assert "1.50×" not in text


def test_history_shows_where_a_level_changed_and_with_which_version(several):
    text = Page.of(several / "history.html").text
    assert re.search(r"train/mlp/small/jax_jit/cpu/fp32/b8 step_time 8 \S+ ms 1\.25\d×", text)
    assert "torch is 2.13.0, but was 2.12.0" in text
    on_case = Page.of(several / "m1/cases/performance/train/mlp/small/jax_jit/cpu/fp32/b8.html")
    assert "20260101-000000" in on_case.text
    assert "History" in on_case.text


def test_the_newest_run_is_compared_with_each_version(several):
    places = sorted(path.stem for path in (several / "compare/m1").glob("*.html"))
    assert places == [f"2026010{n}-000000" for n in range(1, 8)]
    text = Page.of(several / "compare/m1/20260104-000000.html").text
    assert "Changed versions torch is 2.13.0, but was 2.12.0" in text
    first = text[text.index("the largest effect first") :]
    assert re.search(r"jax_jit (mlp|vit|convnet) step time ?▲ ?regressed 1\.25\d×", first)
    assert "measured at different times" in text


def test_whom_the_newest_is_compared_with():
    def run(number, torch):
        environment = {"versions": {"torch": torch}, "python": "3.12"}
        return store.Run(str(number), Path(str(number)), environment, ())

    runs = [run(n, "1" if n < 10 else "2") for n in range(40)]
    picked = [one.run_id for one in versus.earlier(runs)]
    assert picked[:3] == ["38", "9", "37"]
    assert len(picked) == versus.MOST


def test_a_base_url_gives_addresses_and_a_sitemap(several, sample):
    url = "https://example.org/assay"
    html = (several / "history.html").read_text()
    assert f'<link rel="canonical" href="{url}/history.html">' in html
    assert f"<loc>{url}/m1/models/vit.html</loc>" in (several / "sitemap.xml").read_text()
    assert "canonical" not in (sample / "history.html").read_text()


# -- claims, deviations, faults --------------------------------------------------------------------


def test_claims_and_deviations_come_from_records(tmp_path):
    claims = [
        Claim("amp-memory", "AMP takes 30% less memory", "article 002", "peak memory", "holds",
              value=0.71, low=0.7, high=0.72, unit="1", cases=("memory/train/vit",)),
        Claim("ddp", "DDP is twice as fast on 8 GPUs", "article 002", "step time",
              "not testable here", reason="one GPU is needed for each process"),
        Claim("chain", "the gradient at 3 is 8", "article 001", "autodiff", "does not hold",
              measured="24 in every adapter"),
    ]  # fmt: skip
    known = case(suite="operations", model="gelu", mode="infer")
    odd = replace(agreed(known, "deviation"), reason="its tail cancels")
    folder = write(tmp_path, "20260101-000000", [*claims, odd, Outcome(known, "ok", "", 1.0, "-")])
    reports.build([folder], tmp_path / "out")
    text = Page.of(tmp_path / "out/claims.html").text
    for part in (
        "AMP takes 30% less memory amp-memory ✓ holds 0.710× 0.700 to 0.720× peak memory",
        "Measured on memory/train/vit", "– not testable here", "one GPU is needed",
        "✗ does not hold 24 in every adapter", "gelu its tail cancels fp32 1",
    ):  # fmt: skip
        assert re.sub(r"\s", "", part) in re.sub(r"\s", "", text), part


def test_without_claims_the_page_says_so(sample):
    assert "No claim was put to the test" in Page.of(sample / "claims.html").text


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"verdict": "true"}, "verdict is 'true'"),
        ({"verdict": "holds"}, "nothing was measured"),
        ({"verdict": "not testable here"}, "has no reason"),
        ({"verdict": "holds", "value": math.inf}, "finite"),
        ({"verdict": "holds", "value": 1.0, "statement": ""}, "statement is empty"),
    ],
)
def test_a_claim_needs_what_its_verdict_rests_on(fields, said):
    whole = {"claim": "c", "statement": "s", "source": "o", "asked": "a"}
    with pytest.raises(ValueError, match=said):
        Claim(**(whole | fields))


def test_the_judge_s_trial_is_shown_with_what_it_missed(sample):
    text = Page.of(sample / shown.UNKNOWN / "conformance.html").text
    assert re.search(r"gelu tanh swapped fault ?✓ ?caught vit jax_jit 1 of 1 1 of 1", text)
    assert re.search(r"missed one fault ?✗ ?missed mlp tf_graph 0 of 1", text)
    assert re.search(r"honest runs honest ?✓ ?no alarm", text)


@pytest.mark.parametrize("content", [b"a,b\n1,2\n", b"\xff\xfe", b"kind\nfault\n"])
def test_a_broken_trial_is_a_problem(tmp_path, content):
    (tmp_path / "self_test.csv").write_bytes(content)
    found, problem = trial.read(tmp_path)
    assert found == []
    assert problem.startswith("self_test.csv")


# -- the build -------------------------------------------------------------------------------------


def contents(out):
    return {p.relative_to(out): p.read_bytes() for p in out.rglob("*") if p.is_file()}


def test_the_same_records_give_the_same_bytes(several, tmp_path):
    folders = sorted(several.parent.glob("2026*"), reverse=True)
    reports.build(folders, tmp_path, base_url="https://example.org/assay/")
    mine = contents(tmp_path)
    theirs = contents(several)
    for name in (Path(site.MANIFEST),):  # it knows the order in which the runs were given
        mine.pop(name), theirs.pop(name)
    assert mine == theirs


def test_a_second_build_writes_only_what_changed(several, tmp_path):
    folders = sorted(several.parent.glob("2026*"))
    out = tmp_path / "out"
    reports.build(folders, out)
    stamps = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    reports.build(folders, out)
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    reports.build(folders[:-1], out)
    changed = {
        path for path in stamps if not path.exists() or path.stat().st_mtime_ns != stamps[path]
    }
    assert out / "index.html" in changed
    assert out / "m2/run.html" not in changed
    assert out / "assets/site.js" not in changed


def test_pages_that_are_gone_are_removed_and_other_files_are_not(several, tmp_path):
    folders = sorted(several.parent.glob("2026*"))
    out = tmp_path / "out"
    reports.build(folders, out)
    (out / "CNAME").write_text("example.org")
    reports.build([f for f in folders if f.name != "20260101-120000"], out)
    assert not (out / "m2/run.html").exists()
    assert (out / "CNAME").read_text() == "example.org"
    assert dead_links(out) == []


def test_a_damaged_file_is_made_again(several, tmp_path):
    folders = sorted(several.parent.glob("2026*"))[:1]
    reports.build(folders, tmp_path)
    (tmp_path / "index.html").write_text("gone")
    (tmp_path / "runs.html").unlink()
    reports.build(folders, tmp_path)
    assert "Is it right" in (tmp_path / "index.html").read_text()
    assert (tmp_path / "runs.html").is_file()


@pytest.mark.parametrize("told", ["[]", "{", '{"format": 1, "files": []}', '{"format": 99}'])
def test_a_foreign_manifest_is_nothing(several, tmp_path, told):
    (tmp_path / site.MANIFEST).write_text(told)
    reports.build(sorted(several.parent.glob("2026*"))[:1], tmp_path)
    assert json.loads((tmp_path / site.MANIFEST).read_text())["format"] == 1


def test_a_manifest_cannot_have_files_elsewhere_removed(several, tmp_path):
    outside = tmp_path / "precious.txt"
    outside.write_text("mine")
    out = tmp_path / "out"
    out.mkdir()
    told = {"format": 1, "made_from": "x", "files": {"../precious.txt": 4}}
    (out / site.MANIFEST).write_text(json.dumps(told))
    reports.build(sorted(several.parent.glob("2026*"))[:1], out)
    assert outside.read_text() == "mine"


def test_tables_are_there_for_other_programs(sample):
    import pandas as pd

    folder = sample / "data" / shown.UNKNOWN
    summary = pd.read_csv(folder / "summary.csv")
    assert len(summary) == len(json.loads((folder / "summary.json").read_text()))
    if (folder / "summary.parquet").exists():
        assert len(pd.read_parquet(folder / "summary.parquet")) == len(summary)


# -- what can be wrong with a run ------------------------------------------------------------------


def test_an_empty_run_without_an_environment_says_so(tmp_path):
    folder = tmp_path / "20260101-000000"
    folder.mkdir()
    (folder / store.RECORDS).write_bytes(b"")
    reports.build([folder], tmp_path / "out")
    text = Page.of(tmp_path / "out/index.html").text
    assert "The run holds no cases" in text
    assert "is not recorded" in text
    assert "1 problem with its records" in text
    assert dead_links(tmp_path / "out") == []


def test_broken_lines_are_named_and_the_rest_is_shown(tmp_path):
    folder = write(tmp_path, "20260101-000000", models({"torch_eager": 1.0}))
    path = folder / store.RECORDS
    path.write_bytes(
        path.read_bytes() + b'{"kind": "outcome", "schema": 99}\n{"kind": "measurement", "sch'
    )
    reports.build([folder], tmp_path / "out")
    text = Page.of(tmp_path / "out/m1/run.html").text
    assert "schema version 99" in text
    assert "cut off" in text
    assert "2 problems with its records" in Page.of(tmp_path / "out/index.html").text


def test_a_run_that_is_given_twice_counts_once(tmp_path):
    folder = write(tmp_path, "20260101-000000", models({"torch_eager": 1.0}))
    reports.build([folder, folder], tmp_path / "out")
    assert "the newest of" not in Page.of(tmp_path / "out/index.html").text


@pytest.mark.parametrize("name", ["compare", "assets", "a/b", "../x", "traces"])
def test_a_machine_may_have_any_name(tmp_path, name):
    folder = write(tmp_path, "20260101-000000", models({"torch_eager": 1.0}),
                   fingerprint={"id": name})  # fmt: skip
    reports.build([folder], tmp_path / "out")
    assert dead_links(tmp_path / "out") == []
    assert len(list((tmp_path / "out").glob("*/run.html"))) == 1


def test_traces_that_are_gone_are_removed(tmp_path):
    with_trace = sample_run.write(tmp_path, hostile=False)
    reports.build([with_trace], tmp_path / "out")
    (trace,) = (tmp_path / "out/traces").iterdir()
    trace.unlink()
    reports.build([with_trace], tmp_path / "out")
    assert trace.is_file()
    other = write(tmp_path, "20260101-000000", models({"torch_eager": 1.0}))
    reports.build([other], tmp_path / "out")
    assert not trace.exists()


def test_a_gate_has_a_page_and_a_place_in_the_menu(tmp_path):
    gated = case(suite="gate")
    decision = Decision(
        gated, "step_time", "regressed", "HEAD~1", 0.05, (1.1, 1.1), 1.1, 1.08, 1.12
    )
    folder = write(tmp_path, "20260101-000000", [decision, Outcome(gated, "ok", "", 1.0, "-")])
    reports.build([folder], tmp_path / "out")
    assert "regressed" in Page.of(tmp_path / "out/m1/gate.html").text
    assert "m1/gate.html" in Page.of(tmp_path / "out/index.html").links


def test_a_full_disk_is_one_clear_error(tmp_path):
    folder = write(tmp_path, "20260101-000000", models({"torch_eager": 1.0}))
    (tmp_path / "out").write_text("a file where the folder should be")
    with pytest.raises(StoreError, match="cannot write"):
        reports.build([folder], tmp_path / "out")


# -- the command -----------------------------------------------------------------------------------


def test_the_command_takes_a_folder_of_runs(several, tmp_path, capsys):
    assert main([str(several.parent), "-o", str(tmp_path / "a")]) == 0
    assert "the newest of 8" in Page.of(tmp_path / "a/index.html").text
    shutil.rmtree(tmp_path / "a")
    assert main([str(several.parent / "20260101-000000"), "-o", str(tmp_path), "--one-page"]) == 0
    assert (tmp_path / "index.html").stat().st_size > 4_000_000  # plotly is inside
    assert not (tmp_path / "assets").exists()


@pytest.mark.parametrize("url", ["example.org", "javascript:alert(1)", 'https://x/"><script>'])
def test_a_wrong_address_is_refused(several, tmp_path, capsys, url):
    with pytest.raises(SystemExit) as stopped:
        main([str(several.parent), "-o", str(tmp_path), "--base-url", url])
    assert stopped.value.code == 2
    assert "no address of a site" in capsys.readouterr().err


def test_verdicts_are_shown_machine_by_machine(tmp_path):
    def ran(verdict, model, suite="operations"):
        of = case(model=model, suite=suite, precision="bf16", mode="train")
        status, reason = ("divergent", "garbage") if verdict == "divergent" else ("ok", "")
        return [agreed(of, verdict), Outcome(of, status, reason, 1.0, "pytest")]

    intel = write(tmp_path, "20260101-000000", [*ran("rounding-equal", "conv3d"),
                  *ran("rounding-equal", "relu"), *ran("divergent", "alone")],
                  fingerprint={"id": "m1"}, cpu={"model": "Intel Xeon"})  # fmt: skip
    amd = write(tmp_path, "20260102-000000", [*ran("divergent", "conv3d"),
                *ran("bitwise", "relu")],
                fingerprint={"id": "m2"}, cpu={"model": "AMD EPYC"}, isa="avx2")  # fmt: skip
    reports.build([intel, amd], tmp_path / "out")
    for slug in ("m1", "m2"):
        text = Page.of(tmp_path / "out" / slug / "conformance.html").text
        table = text.partition("Machine by machine")[2]
        assert "Intel Xeon" in table
        assert "AMD EPYC, kernels held down to avx2" in table
        row = re.search(r"operations: train/conv3d/(.*?)Made from", table)[1]
        assert row.index("divergent") < row.index("rounding-equal"), row  # the newest run leads
        assert "train/relu" not in table  # right on both
        assert "train/alone" not in table  # on one machine alone
    assert dead_links(tmp_path / "out") == []
    reports.build([intel], tmp_path / "single")
    assert "Machine by machine" not in Page.of(tmp_path / "single" / "m1" / "conformance.html").text
