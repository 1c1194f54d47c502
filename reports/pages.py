"""The pages of a site, as (place, text). What they hold is made elsewhere; here it is laid out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from reports import anchors, badges, case_pages, conformance, matrix, rendering
from reports.anchors import anchor
from reports.conformance import faults
from reports.conformance.machines import machines
from reports.conformance.scorecards import scorecards
from reports.data import CaseView
from reports.exhibits import Cell, Column, Panel, Row, Table, Topic
from reports.sections import (
    SECTIONS,
    Section,
    benchmarks,
    claims,
    history,
    machine,
    performance,
    versus,
)
from reports.sections.gate import decided
from reports.sections.roofline import roofline
from reports.sections.tensors import tensors
from reports.shown import Shown
from results import describe, display, export, foreign
from results.announce import Verdict, headline, label
from results.store import Run

WORST = 12  # cases that are not ok which the front page names
_ABOUT_MODELS = tuple(part for part in SECTIONS if part.name != "gate")
_ROOFLINE = Section(
    "roofline", "Roofline",
    "Arithmetic per second against what the machine allows, which its memory limits on the left "
    "of the bend and its arithmetic on the right.",
    roofline,
)  # fmt: skip
_TENSORS = Section(
    "tensors", "Agreement tensor by tensor",
    "Which layer, in which step, and in which adapter. Update@10 is what a parameter became after "
    "ten steps. The second table bounds how far two adapters can be from each other.",
    tensors,
)  # fmt: skip
_CELLS = (
    "Each cell holds the verdict of one case, the worst tensor with its relative error, and how "
    "many times the noise floor that error is."
)
_CASES = (
    Column("Case"), Column("Suite", facet="suite"), Column("Model", facet="model"),
    Column("Adapter", facet="adapter"), Column("Mode", facet="mode"),
    Column("Precision", facet="precision"), Column("Device", facet="device"),
    Column("Verdict", facet="verdict"), Column("Worst tensor"), Column("Took", True),
)  # fmt: skip


@dataclass(frozen=True)
class Part:
    """A section of a page: its heading, how to read it, and what it holds."""

    id: str
    title: str
    note: str = ""
    panels: Sequence[Panel] = ()
    tables: Sequence[Table] = ()
    topics: Sequence[Topic] = ()
    matrices: Sequence[conformance.Matrix] = ()
    lines: Sequence[str] = ()
    links: Sequence[tuple[str, str]] = ()

    @property
    def holds(self) -> bool:
        """Whether there is anything in it."""
        kinds = (self.panels, self.tables, self.topics, self.matrices, self.lines, self.links)
        return any(kinds)


@dataclass(frozen=True)
class Layout:
    """What is the same on all pages. `home` leads to the pages of a machine from its slug."""

    title: str
    base_url: str
    shown: Sequence[Shown]
    _paths: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for one in self.shown:
            self._paths.update(one.paths)

    def page(self, template: str, place: str, heading: str, **context: Any) -> tuple[str, str]:
        """One page; `heading` is its first, and what its title begins with."""
        root = "../" * place.count("/")
        slug = place.partition("/")[0] if "/" in place else ""
        if slug == "compare":
            slug = ""
        here = next((one for one in self.shown if one.slug == slug), self.shown[0])
        text = rendering.templates().get_template(f"site/{template}.html.j2").render(
            place=place, root=root, heading=heading, site_title=self.title,
            nav=self._nav(here), here=here, several=len(self.shown) > 1,
            address=anchors.address(self.base_url, place) if self.base_url else "",
            href=self._href(root), plotly=rendering.PLOTLY, panel_heading="h3",
            reading_heading="h2", model_place=model_place,
            **context,
        )  # fmt: skip
        return place, text

    def parts(
        self, place: str, heading: str, parts: Sequence[Part], **context: Any
    ) -> tuple[str, str]:
        """A page that is a row of sections."""
        found = [part for part in parts if part.holds]
        charts = any(e.chart for part in found for panel in part.panels for e in panel.exhibits)
        told: dict[str, Any] = {"lede": "", "facts": (), "notices": ()}
        return self.page("parts", place, heading, sections=found, charts=charts, **(told | context))

    def _href(self, root: str) -> Callable[[str], str]:
        """A link to a case leads to its page; any other stays on its own."""

        def href(target: str) -> str:
            path = self._paths.get(target)
            return f"{root}{path}" if path else f"#{target}"

        return href

    def _nav(self, here: Shown) -> list[tuple[str, str]]:
        """(name, place) of what every page links to."""
        found = [("Overview", "index.html"), ("Conformance", f"{here.slug}/conformance.html")]
        found += [("Cases", f"{here.slug}/cases.html")]
        if here.gated:
            found += [("Gate", f"{here.slug}/gate.html")]
        found += [("Compare", "compare.html"), ("History", "history.html")]
        return [*found, ("Claims and findings", "claims.html"), ("Runs", "runs.html"),
                ("How to read", "reading.html")]  # fmt: skip


def pages(found: Sequence[Shown], *, title: str | None, base_url: str) -> Iterator[tuple[str, str]]:
    """Every page of the site of these machines."""
    heading = "Conformance and performance" if _judged(found) else "Benchmarks"
    layout = Layout(title or heading, base_url, found)
    yield _front(layout)
    for one in found:
        yield from _of_machine(layout, one)
    yield from _compare(layout)
    yield _history(layout)
    yield _claims(layout)
    yield _runs(layout)
    yield layout.page("reading", "reading.html", "How to read these pages", charts=False,
                      legend=badges.legend(), flags=display.flag_meanings())  # fmt: skip


def _judged(shown: Sequence[Shown]) -> bool:
    """Whether anything on the site is Assay's own, and not another tool's."""
    views = [view for one in shown for view in one.data.cases]
    return not views or any(not foreign.measured(view.case) for view in views)


# -- the front page --------------------------------------------------------------------------------


def _front(layout: Layout) -> tuple[str, str]:
    sections = []
    for one in layout.shown:
        found = matrix.tables(one.data)
        sections.append({
            "one": one, "tables": found, "sentence": describe.sentence(one.run),
            "facts": _facts(one.run)[:4], "not_ok": _not_ok(one)[:WORST],
            "more": max(0, len(_not_ok(one)) - WORST), "withheld": one.data.withheld,
            "gate": _gate(one), "benchmarks": benchmarks.table(one.data),
        })  # fmt: skip
    every = [table for section in sections for table in section["tables"]]  # type: ignore[attr-defined]
    facets = {
        name: display.table_order([getattr(table, name) for table in every])
        for name in ("mode", "precision", "device")
    }
    adapters = display.table_order([a for t in every for a in t.adapters], matrix.BASELINE)
    spots = [spot for table in every for row in table.rows for spot in row.spots if spot]
    speeds = [a for a in adapters if any(s.speed and s.adapter == a for s in spots)]
    return layout.page(
        "front", "index.html", layout.title, charts=False, sections=sections, facets=facets,
        adapters=adapters, with_speed=speeds, least=matrix.LEAST,
        judged=_judged(layout.shown),
    )  # fmt: skip


def _gate(one: Shown) -> str:
    """`2 regressed, 41 unchanged`; empty where there was no gate."""
    found = decided(one.data)
    base = ", ".join(dict.fromkeys(decision.base for decision in found))
    told = headline(Verdict(found, base, one.run.run_id))
    return f"{told}, against {display.shorten(base, 120)}" if found else ""


def _not_ok(one: Shown) -> list[CaseView]:
    """Cases that did not end ok, and those whose verdict is bad although they did: the gravest
    first. What is unsupported is no fault."""
    views = [
        view for view in one.data.cases
        if view.status not in ("ok", "unsupported") or view.badge.tone == "bad"
    ]  # fmt: skip
    return sorted(views, key=lambda view: badges.gravity(view.status))


# -- the pages of a machine ------------------------------------------------------------------------


def _of_machine(layout: Layout, one: Shown) -> Iterator[tuple[str, str]]:
    yield _conformance(layout, one)
    for topic in conformance.topics(one.data):
        yield layout.parts(
            f"{one.slug}/conformance/{topic.name}.html", topic.title,
            [Part("results", "Results", topics=[topic])],
        )  # fmt: skip
    yield _cases(layout, one)
    yield _run(layout, one)
    if one.gated:
        gate = next(part for part in SECTIONS if part.name == "gate")
        part = Part("gate", "Decisions", gate.note, gate.make(one.data))
        yield layout.parts(f"{one.slug}/gate.html", "Gate", [part])
    for model in models(one):
        yield _model(layout, one, model)
    facts = _facts(one.run)[:4]
    for page in case_pages.pages(one.data, one.series):
        view = page.view
        yield layout.page(
            "case", one.paths[view.anchor], label(view.case), page=page, view=view, facts=facts,
            charts=any(e.chart for e in page.rounds) or bool(page.history),
            model=model_place(one.slug, view.case.model) if matrix.about_a_model(view.case) else "",
        )  # fmt: skip


def models(one: Shown) -> list[str]:
    """The models that have a page."""
    return sorted({v.case.model for v in one.data.cases if matrix.about_a_model(v.case)})


def model_place(slug: str, model: str) -> str:
    return f"{slug}/models/{anchor(model).replace('/', '_')}.html"


def _model(layout: Layout, one: Shown, model: str) -> tuple[str, str]:
    data = one.of_model(model)
    about = [view for view in data.cases if matrix.about_a_model(view.case)]
    parts = [Part(s.name, s.title, s.note, s.make(data)) for s in _ABOUT_MODELS]
    parts.insert(2, Part(_ROOFLINE.name, _ROOFLINE.title, _ROOFLINE.note, roofline(data)))
    controls = performance.native_controls(data)
    parts += [Part("controls", "Native controls", "The same model as people write it in the "
                   "framework itself, with the same weights.",
                   tables=[controls] if controls else []),
              Part("verdicts", "Verdicts", _CELLS, matrices=conformance.matrices(data)),
              Part(_TENSORS.name, _TENSORS.title, _TENSORS.note, tensors(data))]  # fmt: skip
    ok = sum(view.status == "ok" for view in about)
    lede = f"{ok} of {len(about)} cases ended ok, on {one.machine}."
    return layout.parts(
        model_place(one.slug, model), display.shorten(model, 80), parts, lede=lede,
        notices=[*describe.known_bad(data.run.environment), *_withheld(data.withheld)],
        summary=matrix.tables(data),
    )  # fmt: skip


def _withheld(number: int) -> list[str]:
    if not number:
        return []
    cases = "case is" if number == 1 else "cases are"
    return [f"Figures of {number} measured {cases} withheld: a figure appears only beside a "
            "verdict that allows it."]  # fmt: skip


def _conformance(layout: Layout, one: Shown) -> tuple[str, str]:
    card = scorecards(one.data)
    topics = conformance.topics(one.data)
    anchors_of = one.anchors
    known = claims.deviations([one.run], lambda run, case: anchors_of.get(case, ""))
    tried = faults.faults(one.tried)
    compared = machines(_by_machine(layout.shown))
    parts = [
        Part("scorecard", "Scorecard", topics=[card] if card else []),
        Part("exercises", "Exercises", "What single operations, their gradients, control flow and "
             "frameworks' own defaults do, each on a page of its own.",
             links=[(topic.title, f"{one.slug}/conformance/{topic.name}.html")
                    for topic in topics]),
        Part("models", "Models", _CELLS, matrices=conformance.matrices(one.data)),
        Part("machines", "Machine by machine", "The newest runs of all machines of this site. A "
             "machine whose kernels are held down counts as one of its own.",
             tables=[compared] if compared else []),
        Part("deviations", "Deviations", "What an adapter is known to compute otherwise on this "
             "processor. An entry that is not true any more is told at the end of a run.",
             tables=[known] if known else []),
        Part("faults", "The judge's own trial", "A judge that finds nothing says something only "
             "where it would have found something. Faults were planted in copies of the adapters; "
             "weak ones change less than 1e-5 and count apart. Dead ones move nothing where they "
             "were planted.", tables=[tried] if tried else []),
    ]  # fmt: skip
    return layout.parts(f"{one.slug}/conformance.html", "Conformance", parts,
                        lede=describe.sentence(one.run))  # fmt: skip


def _by_machine(found: Sequence[Shown]) -> dict[str, Sequence[CaseView]]:
    """Cases of the newest run by the machine's name; the slug tells those of one name apart."""
    names = [one.machine for one in found]
    return {
        one.machine if names.count(one.machine) == 1 else f"{one.machine} ({one.slug})": [
            view for view in one.data.cases if not foreign.measured(view.case)
        ]
        for one in found
    }


def _cases(layout: Layout, one: Shown) -> tuple[str, str]:
    rows = tuple(
        Row(label(view.case), view.anchor, (
            _name(view.case.suite), _name(view.case.model), _name(view.case.adapter),
            _name(view.case.mode), _name(view.case.precision), _name(view.case.device),
            Cell(badge=view.badge, hint=display.shorten(view.reason, 200)),
            Cell(display.shorten(view.worst, 60) or display.NONE,
                 small=(view.closeness,) if view.closeness else ()),
            Cell(display.quantity(view.seconds, "s"), value=view.seconds),
        ))
        for view in one.data.cases
    )  # fmt: skip
    table = Table(f"{len(rows):,} cases of run {one.run.run_id}", _CASES, rows, search=True)
    part = Part("cases", "All cases", "Each has a page with its figures, its tensors and the "
                "command that runs it alone.", tables=[table] if rows else [])  # fmt: skip
    return layout.parts(f"{one.slug}/cases.html", "Cases", [part],
                        lede=describe.sentence(one.run))  # fmt: skip


def _name(name: str) -> Cell:
    return Cell(display.shorten(name, 40))


def _run(layout: Layout, one: Shown) -> tuple[str, str]:
    run, data = one.run, one.data
    limits, spent = machine.limits(data), machine.time_spent(data)
    rows = tuple(describe.flatten(run.environment))
    environment = Table(
        f"Environment of run {run.run_id}", (Column("Name"), Column("Value")),
        tuple(Row(display.shorten(name, 80), "", (Cell(display.shorten(text, 600)),))
              for name, text in rows),
    )  # fmt: skip
    why = conformance.unsupported(data)
    files = [(f"{name}, {form}", f"data/{one.slug}/{name}.{form}")
             for name, form in export.available()]  # fmt: skip
    parts = [
        Part("not-ok", "What is not ok", tables=[t for t in (_reasons(one), why) if t]),
        Part("limits", "Limits of the machine", "What this machine can do at most, measured with "
             "large matrix products and large arrays. “Of peak” compares with these.",
             tables=[limits] if limits else []),
        Part("time", "Where time went", tables=[spent] if spent else []),
        Part("environment", "Environment", tables=[environment] if rows else []),
        Part("problems", "Problems with the records", lines=[display.shorten(p, 400)
                                                             for p in run.problems]),
        Part("files", "Downloads", "The tables that these pages are made from. A line is a case's "
             "metric (summary), a case (outcomes), a tensor (agreements), a value (measurements) "
             "or a limit of the machine.", links=files),
    ]  # fmt: skip
    return layout.parts(
        f"{one.slug}/run.html", f"Run {display.shorten(run.run_id, 80)}", parts,
        lede=describe.sentence(run), facts=_facts(run), notices=_notices(run),
    )  # fmt: skip


def _reasons(one: Shown) -> Table | None:
    rows = tuple(
        Row(view.case.key, view.anchor, (
            _name(view.case.suite), Cell(badge=view.badge),
            Cell(display.shorten(view.reason or "its verdict is bad although it ended ok", 400)),
        ))
        for view in _not_ok(one)
    )  # fmt: skip
    columns = (Column("Case"), Column("Suite"), Column("Status"), Column("Reason"))
    return Table("Every case that is not ok, with the reason", columns, rows) if rows else None


def _notices(run: Run) -> list[str]:
    found = []
    if not run.environment:
        found.append("What machine this ran on, and when, is not recorded.")
    found += describe.known_bad(run.environment)
    if run.problems:
        noun = "problem" if len(run.problems) == 1 else "problems"
        found.append(f"{len(run.problems)} {noun} came up while the records were read; "
                     "they are listed with the run.")  # fmt: skip
    return found


def _facts(run: Run) -> list[tuple[str, str]]:
    """(name, text) of what a reader wants to know first, as far as it was recorded."""
    environment = run.environment
    versions = [f"{name} {version}" for name, version in describe.versions(run).items()]
    memory = environment.get("memory_bytes")
    size = float(memory) if isinstance(memory, int | float) and 0 < memory < 2**80 else 0.0
    rows = [
        ("Started", describe.started(environment)),
        ("Machine", describe.machine(environment)),
        ("Versions", ", ".join(versions)),
        ("Command", describe.text(environment.get("command"))),
        ("Memory", display.quantity(size, "B") if size else ""),
        *((name.capitalize(), describe.text(environment.get(name))) for name in _PLAIN_FACTS),
        ("Git commit", describe.text(environment.get("git_commit"))),
    ]
    return [(name, display.shorten(text, 400)) for name, text in rows if text]


#: What the run was run under, where it was recorded.
_PLAIN_FACTS = (
    *("preset", "device", "threads", "isolation", "allocator", "seed", "python", "kernel"),
)


# -- over runs -------------------------------------------------------------------------------------


def _compare(layout: Layout) -> Iterator[tuple[str, str]]:
    rows = []
    for one in layout.shown:
        for found in one.comparisons:
            place = _comparison_place(one, found.base)
            told = f"{one.slug}, {describe.started(found.base.environment) or 'date unknown'}"
            changed = "; ".join(found.versions) or "none that is known"
            rows.append((found.title, place, told, changed, [(v, n) for v, n in found.counts if n]))
            yield _comparison(layout, one, found, place)
    yield layout.page("compare", "compare.html", "Compare", charts=False, rows=rows)


def _comparison_place(one: Shown, base: Run) -> str:
    return f"compare/{one.slug}/{anchor(base.run_id).replace('/', '_')}.html"


def _comparison(layout: Layout, one: Shown, found: versus.Versus, place: str) -> tuple[str, str]:
    anchors_of = one.anchors
    table = versus.table(found, lambda case: anchors_of.get(case, ""))
    counted = ", ".join(f"{number} {name}" for name, number in found.counts if number)
    changed = "; ".join(found.versions)
    parts = [
        Part("effects", "What changed", "Ratios are head over base: above 1 is slower or larger. "
             "A verdict needs an interval, and an interval several processes.",
             tables=[table] if table.rows else []),
        Part("notes", "Notes", lines=found.notes),
    ]  # fmt: skip
    return layout.parts(
        place, f"Compare {found.title}", parts, lede=f"{counted or 'Nothing to compare'}.",
        facts=[("Changed versions", changed or "none that is known"),
               ("Head", describe.started(found.head.environment)),
               ("Base", describe.started(found.base.environment))],
    )  # fmt: skip


def _history(layout: Layout) -> tuple[str, str]:
    parts = []
    for one in layout.shown:
        panels = history.of(one.series, len(one.runs), anchors.Anchors(prefix=one.slug))
        parts.append(Part(one.slug, one.machine, panels=panels))
    number = sum(len(one.runs) for one in layout.shown)
    several = any(part.panels for part in parts)
    lede = (
        "Series of one case and metric on one machine, oldest first. A change of level is one that "
        "scatter does not explain; a dashed line marks it. It is for looking: what decides is a "
        "gate."
        if several
        else f"There is nothing to follow yet: of {number} "
        f"{'run' if number == 1 else 'runs'} no two measured the same case on one machine."
    )
    return layout.parts("history.html", "History", parts, lede=lede)


def _claims(layout: Layout) -> tuple[str, str]:
    runs = [one.run for one in layout.shown]
    paths = {one.run.run_id: one.anchors for one in layout.shown}
    tested = claims.claims(runs)
    known = claims.deviations(runs, lambda run, case: paths[run.run_id].get(case, ""))
    parts = [
        Part("claims", "Claims", "A statement that somebody published, and what was measured here.",
             tables=[tested] if tested else [],
             lines=[] if tested else ["No claim was put to the test in these runs."]),
        Part("findings", "Findings", "Where a framework gives something else than is specified, "
             "with the reason.", tables=[known] if known else [],
             lines=[] if known else ["No deviation came up in these runs."]),
    ]  # fmt: skip
    return layout.parts("claims.html", "Claims and findings", parts)


def _runs(layout: Layout) -> tuple[str, str]:
    rows = []
    for one in layout.shown:
        for run in reversed(one.runs):
            newest = run is one.runs[-1]
            place = f"{one.slug}/run.html" if newest else ""
            counts = describe.status_counts(run)
            versions = ", ".join(f"{n} {v}" for n, v in describe.versions(run).items())
            rows.append({"id": run.run_id, "place": place, "machine": one.machine,
                         "slug": one.slug, "started": describe.started(run.environment),
                         "counts": counts, "versions": display.shorten(versions, 300),
                         "problems": run.problems[:20], "cases": sum(counts.values())})  # fmt: skip
    return layout.page("runs", "runs.html", "Runs", charts=False, rows=rows)
