"""Cases about single exercises: operations, differentiation, control flow, traps. Each has so few
words to say that a table shows several of them, its precisions and modes, in one cell."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from reports.badges import Badge
from reports.data import BASELINE, CaseView, RunData, width
from reports.exhibits import Cell, Column
from results import display, frame
from results.describe import NO_OUTCOME
from results.records import Agreement

#: state -> how it is shown, worst first. The words are those of `results.scorecard`.
STATES = {
    "wrong": Badge("wrong", "✗", "bad"),
    "undecided": Badge("undecided", "?", "warn"),
    "deviation": Badge("deviation", "≠", "warn"),
    "unsupported": Badge("unsupported", "–", "mute"),
    "passed": Badge("passed", "✓", "good"),
}
NOT_RUN = Cell("not run")
_MODES = ("result", "gradient", "training")
_WIDEST = 18  # characters of a badge, so that six adapters fit beside each other
_LINES = 8  # of a cell's explanations
_LONGEST = 300  # characters of a line


@dataclass(frozen=True)
class Attempt:
    """One case, its comparisons, and which of STATES it is in."""

    view: CaseView
    rows: tuple[Agreement, ...]
    state: str

    @property
    def mode(self) -> str:
        case = self.view.case
        if case.mode == "infer":
            return "result"
        return "training" if case.recipe else "gradient"

    @property
    def precision(self) -> str:
        return self.view.case.precision


def attempts(data: RunData, about: Callable[[CaseView], bool]) -> list[Attempt]:
    """Those of the cases that `about` picks, the widest precision first."""
    judged = frame.agreements_by_case(data.run)
    picked = sorted((view for view in data.cases if about(view)), key=_widest_first)
    found = [(view, tuple(judged.get(view.case, ()))) for view in picked]
    return [Attempt(view, rows, _state(view, rows)) for view, rows in found]


def adapters_of(found: Iterable[Attempt]) -> list[str]:
    return display.table_order([attempt.view.case.adapter for attempt in found], BASELINE)


def columns(first: str, adapters: Iterable[str]) -> tuple[Column, ...]:
    return Column(first), *(Column(adapter) for adapter in adapters)


def grouped(found: Iterable[Attempt], key: Callable[[CaseView], Any]) -> dict[Any, list[Attempt]]:
    """By what `key` says of their views, in its order."""
    groups: dict[Any, list[Attempt]] = {}
    for attempt in found:
        groups.setdefault(key(attempt.view), []).append(attempt)
    return {name: groups[name] for name in sorted(groups)}


def of(adapter: str, found: Iterable[Attempt]) -> list[Attempt]:
    return [attempt for attempt in found if attempt.view.case.adapter == adapter]


def _widest_first(view: CaseView) -> tuple[int, str]:
    return width(view.case.precision)


def _state(view: CaseView, rows: Iterable[Agreement]) -> str:
    """A case that ended ok has passed only where something was compared and agreed."""
    if view.status != "ok":
        undecided = ("mistrusted", "interrupted", NO_OUTCOME)
        known = {"unsupported": "unsupported", **dict.fromkeys(undecided, "undecided")}
        return known.get(view.status, "wrong")
    verdicts = {row.verdict for row in rows}
    for verdict, state in (("divergent", "wrong"), ("mistrusted", "undecided")):
        if verdict in verdicts:
            return state
    if "deviation" in verdicts:
        return "deviation"
    return "passed" if verdicts & set(frame.PUBLISHABLE) else "undecided"


# -- one cell --------------------------------------------------------------------------------------


def cell(found: Sequence[Attempt], precisions: Sequence[str]) -> Cell:
    """The worst state of an adapter's attempts, where it is and what else there is; opened, why,
    and how close each precision came. `precisions` are those of any adapter."""
    if not found:
        return NOT_RUN
    states = [state for state in STATES if any(a.state == state for a in found)]
    worst, *others = states
    places = {state: _where([a for a in found if a.state == state], found) for state in states}
    if others:
        places[others[-1]] = "the rest"
    small = [f"{places[state]} {STATES[state].text}" for state in others]
    ran = {attempt.precision for attempt in found}
    if worst == "passed":
        text = f"{len(ran)}/{len(precisions)} precision" + "s" * (len(precisions) > 1)
    else:
        text = f"{STATES[worst].text} {places[worst]}".strip()
        if len(text) > _WIDEST:
            text, small = STATES[worst].text, [places[worst], *small]
    wrong = [attempt.view.anchor for attempt in found if attempt.state == "wrong"]
    return Cell(
        badge=replace(STATES[worst], text=text),
        small=(*small, *_missing(found, [name for name in precisions if name not in ran])),
        more=(*_explanations(found), *_closeness(found)),
        anchor=next(iter(wrong), ""),
    )


def _missing(found: Sequence[Attempt], precisions: Sequence[str]) -> Iterable[str]:
    """What is neither right nor wrong: exercises of cases that ran otherwise, and precisions."""
    without = {
        _exercise(row)
        for a in found
        if a.state != "unsupported"
        for row in a.rows
        if row.verdict == "unsupported"
    }
    if without:
        yield f"{len(without)} exercise{'s' * (len(without) > 1)} unsupported"
    if precisions:
        yield f"{' '.join(display.shorten(name, 20) for name in precisions)} not run"


def _where(some: Sequence[Attempt], whole: Sequence[Attempt]) -> str:
    """`gradient`, `fp32 bf16`, `result fp16`: which of the whole; empty for all of it."""
    modes, of_all = ({m: _precisions(x, m) for m in _modes(x)} for x in (some, whole))
    if modes == of_all:
        return ""
    if set(modes) == set(of_all) and len(set(map(tuple, modes.values()))) == 1:
        return " ".join(next(iter(modes.values())))
    parts = [
        mode if precisions == of_all[mode] else f"{mode} {' '.join(precisions)}"
        for mode, precisions in modes.items()
    ]
    return ", ".join(parts)


def _modes(found: Iterable[Attempt]) -> list[str]:
    there = {attempt.mode for attempt in found}
    return [mode for mode in _MODES if mode in there]


def _precisions(found: Iterable[Attempt], mode: str) -> list[str]:
    named = (display.shorten(a.precision, 20) for a in found if a.mode == mode)
    return list(dict.fromkeys(named))


def _closeness(found: Sequence[Attempt]) -> list[str]:
    """`gradient: fp64 3.1e-16 in usual: x; fp32 1.7× floor in odd sizes; bf16 bitwise`"""
    lines = []
    for mode in _modes(found):
        mine = (_close(a) for a in found if a.mode == mode)
        told = "; ".join(text for text in mine if text)
        if told:
            lines.append(f"{mode}: {told}")
    return lines


def _close(attempt: Attempt) -> str:
    """The worst of an attempt's comparisons that agree."""
    agreeing = [row for row in attempt.rows if row.verdict in frame.PUBLISHABLE]
    if not agreeing:
        return ""
    worst = max(agreeing, key=lambda row: (row.ratio or 0.0, row.error))
    precision = display.shorten(attempt.precision, 20)
    if worst.error == 0:
        return f"{precision} bitwise"
    close = display.error(worst.error)
    if worst.ratio is not None:
        close = f"{display.ratio(worst.ratio)} floor"
    return f"{precision} {close} in {display.shorten(worst.tensor, 50)}"


def _explanations(found: Sequence[Attempt]) -> list[str]:
    """What went wrong, what is unsupported and what is known to deviate, each reason once."""
    reasons: dict[tuple[str, str], tuple[list[Attempt], list[str]]] = {}
    for attempt in found:
        for word, exercise, reason in _reasons(attempt):
            where, exercises = reasons.setdefault((word, reason), ([], []))
            where.append(attempt)
            exercises.append(exercise)
    lines = []
    order = list(STATES)
    for (word, reason), (where, exercises) in sorted(
        reasons.items(), key=lambda item: order.index(item[0][0])
    ):
        named = [name for name in dict.fromkeys(exercises) if name]
        which = display.shorten(", ".join(named), 80)
        place = ", ".join(part for part in (_where(where, found), which) if part)
        shown = "\n".join(display.shorten(line, _LONGEST) for line in reason.splitlines()[:_LINES])
        lines.append(f"{STATES[word].symbol} {word} {place}".rstrip() + f": {shown}")
    rest = len(lines) - _LINES
    return [*lines[:_LINES], *([f"and {rest} more"] if rest > 0 else [])]


def _reasons(attempt: Attempt) -> Iterable[tuple[str, str, str]]:
    """(state, exercise or "", reason), of what is not good."""
    if attempt.state in ("unsupported", "undecided") and attempt.view.reason:
        yield attempt.state, "", attempt.view.reason
        return
    words = {
        "divergent": "wrong",
        "mistrusted": "undecided",
        **{word: word for word in ("unsupported", "deviation")},
    }
    told = False
    for row in attempt.rows:
        word = words.get(row.verdict)
        if word:
            told |= word == "wrong"
            yield word, display.shorten(row.tensor, 60), _why(row)
    if attempt.state == "wrong" and not told:
        yield "wrong", "", f"{attempt.view.badge.text}: {attempt.view.reason}"


def _why(row: Agreement) -> str:
    reason = row.reason.removeprefix("unsupported: ")
    if row.verdict != "divergent" or reason:
        return reason or "no reason was recorded"
    close = f"error {display.error(row.error)}"
    return close if row.ratio is None else f"{close}, {display.ratio(row.ratio)} floor"


def _exercise(row: Agreement) -> str:
    return row.tensor.partition(": ")[0]
