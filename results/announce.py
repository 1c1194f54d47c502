"""What a gate found, for people and for machines: Markdown, JSON, GitHub's annotations, a badge."""

from __future__ import annotations

import dataclasses
import html
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO

from results import display
from results.badge import badge as drawn
from results.command_line import FINE, NOTHING, WORSE
from results.foreign import TOOLS
from results.gate import (
    ALPHA,
    IMPROVED,
    INCONCLUSIVE,
    REGRESSED,
    UNCHANGED,
    VERDICTS,
    change,
    discovered,
    sentence,
)
from results.records import Case, Decision, finite

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
    ungated     cases on which nothing was to be decided, and why: neither side supports them, say
    wrong       whatever else was selected and is wrong, by name, and why: conformance, say
    """

    decisions: Sequence[Decision]
    base: str
    head: str
    undecided: str = ""
    notes: Sequence[str] = ()
    ungated: Mapping[Case, str] = field(default_factory=dict)
    wrong: Mapping[str, str] = field(default_factory=dict)

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
        if self.wrong:
            return f"{len(self.wrong)} wrong"
        if self.undecided or self.of(INCONCLUSIVE) or not self.decisions:
            return "not decided"
        return "no regression"


def label(case: Case) -> str:
    """What a case is called."""
    return case.model if case.suite in TOOLS else case.key


def headline(verdict: Verdict) -> str:
    """`2 regressed, 41 unchanged, 3 not gated, 1 wrong besides`."""
    told = [f"{number} {name}" for name, number in verdict.counts.items()]
    told = told or ["nothing was decided"]
    told += [f"{len(verdict.ungated)} not gated"] if verdict.ungated else []
    told += [f"{len(verdict.wrong)} wrong besides"] if verdict.wrong else []
    return ", ".join(told)


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
    lines += ["", discoveries(verdict)] if discoveries(verdict) else []
    lines += _listed("wrong besides", verdict.wrong, SIGNS[REGRESSED])
    changed = [found for found in verdict.decisions if found.verdict != UNCHANGED]
    changed.sort(key=lambda found: VERDICTS.index(found.verdict))
    lines += ["", *_table(changed)] if changed else []
    same = verdict.of(UNCHANGED)
    if same:
        lines += ["", f"<details><summary>{len(same)} unchanged</summary>", "", *_table(same), "",
                  "</details>"]  # fmt: skip
    ungated = {label(case): reason for case, reason in verdict.ungated.items()}
    lines += _listed("not gated", ungated, "")
    return "\n".join(lines) + "\n"


def _listed(what: str, reasons: Mapping[str, str], sign: str) -> list[str]:
    """What no decision was made on, and why."""
    if not reasons:
        return []
    rows = [f"- {sign} {_cell(name)}: {_cell(why)}" for name, why in list(reasons.items())[:SHOWN]]
    if len(reasons) > SHOWN:
        rows.append(f"- {len(reasons) - SHOWN} more in gate.json")
    summary = f"<details><summary>{len(reasons)} {what}</summary>"
    return ["", summary, "", *rows, "", "</details>"]


def discoveries(verdict: Verdict) -> str:
    """How many times are slower at a false discovery rate; empty where no time was compared."""
    timed = [found for found in verdict.decisions if found.p is not None]
    number = len(discovered(verdict.decisions))
    return (
        f"{number} of {len(timed)} times are slower at a false discovery rate of {ALPHA:.0%} "
        "(Benjamini and Hochberg); it blocks nothing."
        if timed
        else ""
    )


def _table(decisions: Sequence[Decision]) -> list[str]:
    lines = ["| | case | what | change | pairs | seconds | |", "| - | - | - | -: | -: | -: | - |"]
    for found in decisions[:SHOWN]:
        cells = [
            f"{SIGNS[found.verdict]} {found.verdict}", label(found.case), found.metric,
            change(found), str(len(found.ratios) or ""), f"{found.seconds:.0f}", found.reason,
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


def to_json(verdict: Verdict) -> str:
    """Everything, for programs."""
    body = {
        "schema": 1,
        "base": verdict.base,
        "head": verdict.head,
        "counts": verdict.counts,
        "undecided": verdict.undecided,
        "notes": list(verdict.notes),
        "discoveries": [
            {"key": label(found.case), "metric": found.metric}
            for found in discovered(verdict.decisions)
        ],
        "ungated": [
            {"key": label(case), "suite": case.suite, "reason": reason}
            for case, reason in verdict.ungated.items()
        ],
        "wrong": [{"name": name, "reason": reason} for name, reason in verdict.wrong.items()],
        "word": verdict.word,
        "exit_code": exit_code(verdict),
        "decisions": [
            {"key": label(found.case), **dataclasses.asdict(found)} for found in verdict.decisions
        ],
    }
    return json.dumps(finite(body), indent=1, allow_nan=False) + "\n"


def workflow_commands(decisions: Iterable[Decision]) -> list[str]:
    """GitHub's workflow commands: an error per regression, a warning per open question."""
    kinds = {REGRESSED: "error", INCONCLUSIVE: "warning"}
    return [
        f"::{kinds[found.verdict]} title={_escaped(f'Assay: {found.verdict}', of_title=True)}::"
        + _escaped(f"{label(found.case)}: {sentence(found)}")
        for found in decisions
        if found.verdict in kinds
    ]


def files(verdict: Verdict) -> dict[str, str]:
    """What is kept of it, by file name."""
    return {
        "gate.md": markdown(verdict),
        "gate.json": to_json(verdict),
        "gate.svg": badge(verdict),
    }


def tell_github(verdict: Verdict, stream: IO[str]) -> None:
    """Where a workflow of GitHub's runs: the summary of the step, and annotations. Raises OSError
    where the summary cannot be written."""
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with open(summary, "a", encoding="utf-8") as file:
            file.write(markdown(verdict))
    if os.environ.get("GITHUB_ACTIONS") == "true":
        for line in workflow_commands(verdict.decisions):
            print(line, file=stream, flush=True)


def exit_code(verdict: Verdict) -> int:
    """1 regressed or wrong, 3 not or not wholly decided, 0 fine."""
    if verdict.of(REGRESSED) or verdict.wrong:
        return WORSE
    decided = verdict.decisions and not verdict.undecided and not verdict.of(INCONCLUSIVE)
    return FINE if decided else NOTHING


def _escaped(text: str, *, of_title: bool = False) -> str:
    """As GitHub's workflow commands want it."""
    text = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return text.replace(":", "%3A").replace(",", "%2C") if of_title else text


def badge(verdict: Verdict) -> str:
    """An SVG that says how the gate ended."""
    colour = {"no regression": "green", "not decided": "grey"}.get(verdict.word, "red")
    return drawn("assay gate", verdict.word, COLOURS[colour], f"{headline(verdict)}")
