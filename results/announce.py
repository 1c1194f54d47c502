"""What a gate found, for people and for machines: Markdown, JSON, GitHub's annotations, a badge."""

from __future__ import annotations

import dataclasses
import html
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from results import display
from results.badge import badge as drawn
from results.gate import IMPROVED, INCONCLUSIVE, REGRESSED, UNCHANGED, VERDICTS
from results.records import Decision, finite

#: By which a comment on a pull request is found again, so that it is updated and not repeated.
MARKER = "<!-- assay-gate -->"
SIGNS = {REGRESSED: "🔴", IMPROVED: "🟢", UNCHANGED: "⚪", INCONCLUSIVE: "🟡"}
COLOURS = {"red": "#b3261e", "green": "#1b6e3c", "grey": "#5f6368"}  # contrast above 4.5 with white
SHOWN = 100  # rows of a table in Markdown; the rest is in the JSON


@dataclass(frozen=True)
class Verdict:
    """What a gate came to.

    decisions   those that hold
    base, head  what was compared, as people call it
    undecided   why nothing, or not everything, was decided: an unreliable machine, say
    notes       what else a reader should know
    """

    decisions: Sequence[Decision]
    base: str
    head: str
    undecided: str = ""
    notes: Sequence[str] = field(default_factory=tuple)

    def of(self, verdict: str) -> list[Decision]:
        """The decisions with a verdict."""
        return [found for found in self.decisions if found.verdict == verdict]

    @property
    def counts(self) -> dict[str, int]:
        """How many of each verdict that there is."""
        return {name: len(self.of(name)) for name in VERDICTS if self.of(name)}

    @property
    def word(self) -> str:
        """What a badge says."""
        if self.of(REGRESSED):
            return f"{len(self.of(REGRESSED))} regressed"
        if self.undecided or self.of(INCONCLUSIVE) or not self.decisions:
            return "not decided"
        return "no regression"


def sentence(found: Decision) -> str:
    """`regressed step_time 1.052 (1.049 to 1.055), 6 pairs`."""
    told = f"{found.verdict} {found.metric}"
    if found.ratio is None:
        return f"{told}: {found.reason}"
    return f"{told} {_change(found)}" + (f", {len(found.ratios)} pairs" if found.ratios else "")


def headline(verdict: Verdict) -> str:
    """`2 regressed, 41 unchanged`."""
    told = ", ".join(f"{number} {name}" for name, number in verdict.counts.items())
    return told or "nothing was decided"


def markdown(verdict: Verdict) -> str:
    """A summary that fits a pull request's comment: what is not unchanged, then the rest."""
    lines = [
        MARKER,
        f"### Assay gate: {headline(verdict)}",
        "",
        f"{_cell(verdict.head)} against {_cell(verdict.base)}. A ratio above 1 is slower or larger "
        "than base, with its 98% interval.",
    ]
    lines += ["", f"**{_cell(verdict.undecided)}**"] if verdict.undecided else []
    lines += ["", *(f"- {_cell(note)}" for note in verdict.notes)] if verdict.notes else []
    changed = [found for found in verdict.decisions if found.verdict != UNCHANGED]
    changed.sort(key=lambda found: VERDICTS.index(found.verdict))
    lines += ["", *_table(changed)] if changed else []
    same = verdict.of(UNCHANGED)
    if same:
        lines += ["", f"<details><summary>{len(same)} unchanged</summary>", "", *_table(same), "",
                  "</details>"]  # fmt: skip
    return "\n".join(lines) + "\n"


def _table(decisions: Sequence[Decision]) -> list[str]:
    lines = ["| | case | what | change | pairs | seconds | |", "| - | - | - | -: | -: | -: | - |"]
    for found in decisions[:SHOWN]:
        cells = [
            f"{SIGNS[found.verdict]} {found.verdict}", found.case.key, found.metric,
            _change(found), str(len(found.ratios) or ""), f"{found.seconds:.0f}", found.reason,
        ]  # fmt: skip
        lines.append("| " + " | ".join(map(_cell, cells)) + " |")
    if len(decisions) > SHOWN:
        lines.append(f"| | {len(decisions) - SHOWN} more in gate.json | | | | | |")
    return lines


def _cell(text: str) -> str:
    """Text that can neither leave its cell nor become markup."""
    shown = html.escape(display.visible(display.shorten(text, 300)), quote=False)
    for sign in "\\`*[]|":
        shown = shown.replace(sign, f"\\{sign}")
    return shown


def _change(found: Decision) -> str:
    if found.ratio is None:
        return ""
    told = f"{found.ratio:.3f}"
    if found.low is None or found.high is None:
        return told
    return f"{told} ({found.low:.3f} to {found.high:.3f})"


def to_json(verdict: Verdict) -> str:
    """Everything, for programs."""
    body = {
        "schema": 1,
        "base": verdict.base,
        "head": verdict.head,
        "counts": verdict.counts,
        "undecided": verdict.undecided,
        "notes": list(verdict.notes),
        "decisions": [
            {"key": found.case.key, **dataclasses.asdict(found)} for found in verdict.decisions
        ],
    }
    return json.dumps(finite(body), indent=1, allow_nan=False) + "\n"


def workflow_commands(decisions: Iterable[Decision]) -> list[str]:
    """GitHub's workflow commands: an error per regression, a warning per open question."""
    kinds = {REGRESSED: "error", INCONCLUSIVE: "warning"}
    return [
        f"::{kinds[found.verdict]} title={_escaped(f'Assay: {found.verdict}', of_title=True)}::"
        + _escaped(f"{found.case.key}: {sentence(found)}")
        for found in decisions
        if found.verdict in kinds
    ]


def _escaped(text: str, *, of_title: bool = False) -> str:
    """As GitHub's workflow commands want it."""
    text = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return text.replace(":", "%3A").replace(",", "%2C") if of_title else text


def badge(verdict: Verdict) -> str:
    """An SVG that says how the gate ended."""
    colour = {"no regression": "green", "not decided": "grey"}.get(verdict.word, "red")
    return drawn("assay gate", verdict.word, COLOURS[colour], f"{headline(verdict)}")
