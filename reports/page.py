"""One self-contained page from stored runs: index.html opens from disk, offline.

A run is prepared (`data`), its sections are made (`conformance`, `gate`, `convergence`,
`performance`, `precision`, `quantization`, `cold_start`, `scaling`, `machine`), and templates turn
them into HTML. A site of several pages can call the same sections page by page. Traces are the only
other files; they lie beside the page.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from plotly.offline import get_plotlyjs

from reports import badges, conformance, rendering, traces
from reports.anchors import Anchors
from reports.conformance.scorecards import scorecards
from reports.data import CaseView, RunData, prepare
from reports.exhibits import Panel, Table, Topic
from reports.sections import SECTIONS, Section, history, machine, performance
from results import atomic, describe, display, foreign, store
from results.store import Run


@dataclass(frozen=True)
class RunSection:
    """What one run contributes to the page; the fields are described where they are made."""

    data: RunData
    anchor: str
    ids: Mapping[str, str]
    header: tuple[tuple[str, str], ...]
    sentence: str
    scorecard: Topic | None
    matrices: tuple[conformance.Matrix, ...]
    topics: tuple[Topic, ...]
    unsupported: Table | None
    figures: tuple[tuple[Section, tuple[Panel, ...]], ...]
    controls: Table | None
    limits: Table | None
    time_spent: Table | None
    environment: tuple[tuple[str, str], ...]

    @property
    def not_ok(self) -> list[CaseView]:
        """Cases that did not end ok, and those that did although their verdict is bad: the
        gravest first, what is merely unsupported last."""
        views = [v for v in self.listed if v.status != "ok" or v.badge.tone == "bad"]
        return sorted(views, key=lambda view: badges.gravity(view.status))

    @property
    def listed(self) -> list[CaseView]:
        """Cases with a row of their own."""
        return [view for view in self.data.cases if conformance.listed(view)]


def build(runs: Sequence[Path], out: Path, *, title: str | None = None) -> Path:
    """Writes `out`/index.html from the runs in these folders and returns its path.

    The same records give the same bytes. Raises StoreError where a folder holds no run or `out`
    cannot be written; whatever else is wrong with a run is said on the page.
    """
    if not runs:
        raise store.StoreError("no run was given, but a report needs at least one")
    copied = [traces.copy(run, out) for path in runs for run in foreign.open_runs(path)]
    page = out / "index.html"
    text = render([run for run, _ in copied], title=title, links=[links for _, links in copied])
    atomic.write(page, text)
    return page


def render(
    runs: Sequence[Run],
    *,
    title: str | None = None,
    links: Sequence[Mapping[str, str]] | None = None,
) -> str:
    """The page as text; `links` has trace -> link for each run."""
    anchors = Anchors()
    sections = [
        _section(run, anchors.take("run", run.run_id), several=len(runs) > 1, links=to)
        for run, to in zip(runs, links or [{}] * len(runs), strict=True)
    ]
    over_runs = history.panels(runs, anchors) if len(runs) > 1 else []
    scripts = [get_plotlyjs(), rendering.file("page.js")]
    return (
        rendering.templates()
        .get_template("page.html.j2")
        .render(
            title=title or _title(runs),
            sections=sections,
            history=over_runs,
            style=rendering.file("style.css"),
            href=lambda anchor: f"#{anchor}",
            root="",
            panel_heading="h4",
            reading_heading="h3",
            scripts=scripts,
            script_hashes=[_hash(script) for script in scripts],
            legend=badges.legend(),
            flags=display.flag_meanings(),
        )
    )


def _section(run: Run, anchor: str, *, several: bool, links: Mapping[str, str]) -> RunSection:
    prepared = prepare(run, prefix=anchor if several else "", links=links)
    made = ((part, tuple(part.make(prepared))) for part in SECTIONS)
    return RunSection(
        data=prepared,
        anchor=anchor,
        ids={name: prepared.anchors.take(name) for name in _PARTS},
        header=tuple(_header(run)),
        sentence=describe.sentence(run),
        scorecard=scorecards(prepared),
        matrices=tuple(conformance.matrices(prepared)),
        topics=tuple(conformance.topics(prepared)),
        unsupported=conformance.unsupported(prepared),
        figures=tuple((part, panels) for part, panels in made if panels),
        controls=performance.native_controls(prepared),
        limits=machine.limits(prepared),
        time_spent=machine.time_spent(prepared),
        environment=tuple(describe.flatten(run.environment)),
    )


def _header(run: Run) -> list[tuple[str, str]]:
    """(name, text) of what a reader wants to know first, as far as it was recorded."""
    environment = run.environment
    memory = environment.get("memory_bytes")
    size = float(memory) if isinstance(memory, int | float) and 0 < memory < 2**80 else 0.0
    versions = [f"{name} {version}" for name, version in describe.versions(run).items()]
    rows = [
        ("Started", describe.started(environment)),
        ("Machine", describe.machine(environment)),
        ("Memory", display.quantity(size, "B") if size else ""),
        *((name.capitalize(), describe.text(environment.get(name))) for name in _PLAIN_FACTS),
        ("Versions", ", ".join(versions)),
        ("Warning", "; ".join(describe.known_bad(environment))),
        ("Git commit", describe.text(environment.get("git_commit"))),
    ]
    return [(name, text) for name, text in rows if text]


#: The parts of a run's section, each of which has an anchor.
_PARTS = (
    *(
        "agreement",
        "scorecard",
        *conformance.TOPICS,
        *(part.name for part in SECTIONS),
        "limits",
        "controls",
        "not-ok",
        "time-spent",
    ),
    *("cases", "environment", "problems"),
)
#: What the run was run under, where it was recorded, and what else a reader asks first.
_PLAIN_FACTS = (
    *("command", "preset", "device", "threads", "isolation", "allocator"),
    *("seed", "python", "kernel"),
)


def _title(runs: Sequence[Run]) -> str:
    subject = "Conformance and performance"
    return subject if len(runs) == 1 else f"{subject} of {len(runs)} runs"


def _hash(script: str) -> str:
    """How a content security policy names one inline script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
