"""Which exercises of an operation preset quick asks of adapters that take long to start a program:
the fewest that still notice every planted mistake that all of them notice.

    python -m suites.conformance.essentials      derives the choice anew: essentials.toml

Every mistake of `suites.conformance.mistakes` is planted in every operation, in NumPy's vocabulary
in float64, where no noise hides it, and each exercise is asked whether it notices. The choice is
the greedy cover (Chvatal 1979): again and again the exercise that notices most of what is not
noticed yet, of several the smallest. Results and gradients have a choice each. The first of each
choice notices most: it is what is asked where there is time for one exercise only.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from adapters.ops import Ops
from numerics import examination
from numerics.exercises import Exercise, expected
from suites.conformance import mistakes
from suites.conformance.operations import exercises

FILE = Path(__file__).with_name("essentials.toml")
MODES = {"infer": "output", "train": "gradient"}  # mode of a case -> what is judged there
HEADER = """\
# Which exercises preset quick asks of adapters that take long to start a program: the fewest that
# notice every planted mistake. Made by `python -m suites.conformance.essentials`.
"""


def fewest(mode: str, asked: Sequence[Exercise]) -> list[Exercise]:
    """Of one operation's exercises those that were chosen for a mode, the most important one first.
    An operation of which nothing was chosen, since nothing can go wrong in it, is asked what comes
    first."""
    chosen = stored().get(asked[0].subject, {}).get(mode, ()) if asked else ()
    named = {exercise.name: exercise for exercise in asked}
    return [named[name] for name in chosen if name in named] or list(asked[:1])


@functools.cache
def stored() -> Mapping[str, Mapping[str, Sequence[str]]]:
    """Operation -> mode -> names of the exercises that were chosen (FILE)."""
    return tomllib.loads(FILE.read_text(encoding="utf-8"))


def noticed(subject: str) -> dict[str, dict[str, set[str]]]:
    """Mode -> name of the exercise -> mistakes in the operation `subject` that it notices."""
    own = [e.at("fp64") for e in exercises() if e.subject == subject and "fp64" in e.precisions]
    found: dict[str, dict[str, set[str]]] = {mode: {} for mode in MODES}
    for exercise in own:
        reference = expected(exercise)
        for mode in MODES if exercise.by else ("infer",):
            found[mode][exercise.name] = set()
        for mistake, ops in mistakes.of(subject, own):
            wrong = _wrong(exercise, ops, reference)
            for mode, quantity in MODES.items():
                if quantity in wrong and exercise.name in found[mode]:
                    found[mode][exercise.name].add(mistake)
    return found


def _wrong(exercise: Exercise, ops: Ops, reference: Mapping[str, np.ndarray]) -> set[str]:
    """Which quantities are not as they should be; where there are none, all."""
    try:
        own = expected(replace(exercise, reference=None), ops)
    except Exception:  # of any kind: the mistake stops the program
        return set(MODES.values())
    rows = examination.results(exercise, own, reference, {}, "fp64")
    return {row.quantity for row in rows if row.verdict == "divergent"}


def cover(notices: Mapping[str, set[str]], sizes: Mapping[str, int]) -> list[str]:
    """The greedy cover: names of the fewest that together notice everything that any notices."""
    left = set().union(*notices.values())
    chosen: list[str] = []
    while left:
        best = max(notices, key=lambda name: (len(notices[name] & left), -sizes[name]))
        chosen.append(best)
        left -= notices[best]
    return chosen


def derive(subject: str) -> dict[str, list[str]]:
    """The choice of an operation, by mode."""
    sizes = {e.name: sum(x.size for x in e.inputs.values()) for e in exercises()
             if e.subject == subject}  # fmt: skip
    return {mode: cover(notices, sizes) for mode, notices in noticed(subject).items() if notices}


def main() -> None:
    """Derives the choice of every operation and writes FILE."""
    subjects = sorted({exercise.subject for exercise in exercises()})
    with ProcessPoolExecutor() as processes:
        choices = dict(zip(subjects, processes.map(derive, subjects), strict=True))
    lines = [HEADER]
    for subject, by_mode in choices.items():
        lines.append(f"[{subject}]")
        for mode, names in by_mode.items():
            quoted = "".join(f'    "{name}",\n' for name in names)
            lines.append(f"{mode} = [\n{quoted}]" if names else f"{mode} = []")
        lines.append("")
    FILE.write_text("\n".join(lines), encoding="utf-8")
    asked = sum(len(names) for by_mode in choices.values() for names in by_mode.values())
    print(f"{asked} exercises of {len(subjects)} operations: {FILE}")


if __name__ == "__main__":
    main()
