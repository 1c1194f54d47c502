"""One self-contained page from stored runs: index.html opens from disk, offline.

A run is prepared (`data`), its sections are made (`conformance`, `gate`, `convergence`,
`performance`, `precision`, `quantization`, `cold_start`, `scaling`, `machine`), and templates turn
them into HTML. A site of several pages can call the same sections page by page. Traces are the only
other files; they lie beside the page.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from reports import badges, conformance, history, machine, performance, traces
from reports.anchors import Anchors
from reports.cold_start import cold_start
from reports.convergence import convergence
from reports.data import CaseView, RunData, prepare
from reports.exhibits import Panel, Table, Topic
from reports.gate import gate
from reports.precision import precision
from reports.quantization import quantization
from reports.scaling import scaling
from reports.scorecards import scorecards
from results import atomic, describe, display, store
from results.store import Run

_LINES = 12  # of a reason
_FILES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Section:
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
    figures: tuple[tuple[str, tuple[Panel, ...]], ...]
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
    copied = [traces.copy(store.read(folder), out) for folder in runs]
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
    scripts = [get_plotlyjs(), _file("page.js")]
    return (
        _templates()
        .get_template("page.html.j2")
        .render(
            title=title or _title(runs),
            sections=sections,
            history=over_runs,
            style=_file("style.css"),
            scripts=scripts,
            script_hashes=[_hash(script) for script in scripts],
            legend=badges.legend(),
            flags=display.flag_meanings(),
        )
    )


def _section(run: Run, anchor: str, *, several: bool, links: Mapping[str, str]) -> Section:
    prepared = prepare(run, prefix=anchor if several else "", links=links)
    made = ((name, tuple(make(prepared))) for name, make in _FIGURES.items())
    return Section(
        data=prepared,
        anchor=anchor,
        ids={name: prepared.anchors.take(name) for name in _PARTS},
        header=tuple(_header(run)),
        sentence=describe.sentence(run),
        scorecard=scorecards(prepared),
        matrices=tuple(conformance.matrices(prepared)),
        topics=tuple(conformance.topics(prepared)),
        unsupported=conformance.unsupported(prepared),
        figures=tuple((name, panels) for name, panels in made if panels),
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
        ("Git commit", describe.text(environment.get("git_commit"))),
    ]
    return [(name, text) for name, text in rows if text]


#: Sections with charts -> who makes their panels, in the order of the page.
_FIGURES: dict[str, Callable[[RunData], list[Panel]]] = {
    "gate": gate,
    "convergence": convergence,
    "speed": performance.throughput,
    "latency": performance.latency,
    "memory": performance.memory,
    "precision": precision,
    "quantization": quantization,
    "start": cold_start,
    "scaling": scaling,
}
#: The parts of a run's section, each of which has an anchor.
_PARTS = (
    *(
        "agreement",
        "scorecard",
        *conformance.TOPICS,
        *_FIGURES,
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


def _templates() -> Environment:
    templates = Environment(
        loader=FileSystemLoader(_FILES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    filters: dict[str, Any] = {
        "shorten": lambda text, limit: display.visible(display.shorten(text, limit)),
        "prose": lambda text, limit: display.visible(display.shorten(text, limit), keep="\n\t"),
        "lines": _lines,
        "breakable": _breakable,
        "tensor": lambda agreement: display.tensor(agreement.quantity, agreement.tensor),
        "seconds": lambda value: display.quantity(value, "s"),
        "error": display.error,
        "ratio": display.ratio,
        "verdict": display.verdict,
        "facts": describe.flatten,
    }
    templates.filters.update(filters)
    return templates


def _breakable(name: str) -> Markup:
    """A name that may wrap after a slash or an underscore."""
    parts = (Markup("_<wbr>").join(part.split("_")) for part in name.split("/"))
    return Markup("/<wbr>").join(parts)


def _lines(text: str, limit: int) -> str:
    """The first lines of a text, each at most `limit` characters long."""
    lines = text.splitlines()
    shown = [display.visible(display.shorten(line, limit)) for line in lines[:_LINES]]
    rest = len(lines) - _LINES
    return "\n".join([*shown, *([f"and {rest} more lines"] if rest > 0 else [])])


def _file(name: str) -> str:
    return (_FILES / name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    """How a content security policy names one inline script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
