"""A page links to the traces of its run, and to no other file whatever a record names."""

import os
from pathlib import Path

import pytest

import reports
from reports import traces
from results import store
from results.records import Case, Facts, Outcome
from results.store import Run, RunWriter, StoreError
from tests import sample_run
from tests.pages import Page

CASE = Case("performance", "train", "vit", "small", "jax_jit", "cpu", "fp32", 8)


@pytest.fixture
def folder(tmp_path) -> Path:
    """A run's folder with one good trace, beside a file that is none of its business."""
    folder = tmp_path / "runs" / "r"
    (folder / "traces" / "deep").mkdir(parents=True)
    (folder / "traces" / "x.json.gz").write_bytes(b"good")
    (folder / "traces" / "page.html").write_text("<script>alert(1)</script>")
    (folder / "traces" / "deep" / "x.json.gz").write_bytes(b"deep")
    (tmp_path / "secret.json").write_text("secret")
    (folder / "out.json").symlink_to(tmp_path / "secret.json")
    (folder / "loop.json").symlink_to("loop.json")
    (folder / "up").symlink_to(tmp_path)
    (folder / "near.json").symlink_to(folder / "traces" / "x.json.gz")
    os.mkfifo(folder / "pipe.json")
    return folder


def copied(folder: Path, *names: object) -> tuple[Run, dict[str, str]]:
    run = Run("r", folder, {}, tuple(Facts(CASE, {"trace": name}) for name in names))
    return traces.copy(run, folder.parent.parent / "site")


HOSTILE = [
    "../../secret.json", "../../../../../../etc/passwd", "/etc/passwd", "out.json",
    "up/secret.json", "loop.json", "near.json", "pipe.json", "traces", ".", "",
    "traces/../traces/x.json.gz", "traces/none.json", "traces/page.html", "traces/\x00.json",
    "x" * 5000 + ".json", 7, ["a"], {"a": 1}, "\u202e\x1b[31m.json",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: repr(name)[:30])
def test_anything_but_a_plain_file_of_the_run_is_ignored_and_said(folder, name):
    run, links = copied(folder, name, "traces/x.json.gz")
    assert list(links) == ["traces/x.json.gz"]
    site = folder.parent.parent / "site"
    assert [path.read_bytes() for path in site.rglob("*") if path.is_file()] == [b"good"]
    if name:
        assert len(run.problems) == 1
        assert "was ignored" in run.problems[0]
        assert run.problems[0].isprintable()
        assert len(run.problems[0]) < 400


def test_an_absolute_path_into_the_run_is_no_reason_to_look_elsewhere(folder):
    run, links = copied(folder, str(folder.resolve() / "traces" / "x.json.gz"))
    assert all(link.startswith("traces/") for link in links.values())
    assert len(links) + len(run.problems) == 1


def test_traces_of_one_name_do_not_overwrite_each_other(folder):
    _, links = copied(folder, "traces/x.json.gz", "traces/deep/x.json.gz", "traces/x.json.gz")
    site = folder.parent.parent / "site"
    contents = {name: (site / link).read_bytes() for name, link in links.items()}
    assert contents == {"traces/x.json.gz": b"good", "traces/deep/x.json.gz": b"deep"}


def test_a_page_inside_the_runs_folder_leaves_the_run_alone(folder):
    run = Run("r", folder, {}, (Facts(CASE, {"trace": "traces/x.json.gz"}),))
    _, links = traces.copy(run, folder)
    assert (folder / links["traces/x.json.gz"]).read_bytes() == b"good"
    assert (folder / "traces" / "x.json.gz").read_bytes() == b"good"


def test_a_place_that_cannot_be_written_is_an_error_not_a_dead_link(folder):
    run = Run("r", folder, {}, (Facts(CASE, {"trace": "traces/x.json.gz"}),))
    with pytest.raises(StoreError, match="cannot write"):
        traces.copy(run, Path("/proc/none"))


def test_the_details_of_the_case_link_to_the_copy(tmp_path):
    out = tmp_path / "site"
    shown = Page.of(reports.build_page([sample_run.write(tmp_path)], out))
    links = [link for link in shown.links if not link.startswith("#")]
    assert len(links) == 1
    trace = (tmp_path / sample_run.RUN_ID / sample_run.TRACE).read_bytes()
    assert (out / links[0]).read_bytes() == trace
    assert f"Trace: {sample_run.TRACE}" in shown.text


def test_a_hostile_trace_is_a_problem_on_the_page(tmp_path):
    writer = RunWriter(tmp_path, "r", {})
    writer.append(Facts(CASE, {"trace": "../../etc/passwd"}))
    writer.append(Outcome(CASE, "failed", "why", 1.0, "pytest"))
    writer.close()
    shown = Page.of(reports.build_page([tmp_path / "r"], tmp_path / "site"))
    assert [link for link in shown.links if not link.startswith("#")] == []
    assert "the trace '../../etc/passwd' was ignored" in shown.text
    assert "1 problem came up" in shown.text
    assert not (tmp_path / "site" / "traces").exists()
    assert store.read(tmp_path / "r").problems == ()
