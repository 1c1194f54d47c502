"""How figures went from run to run, on one machine, and where they changed.

A series is one metric of one case on one machine and with the same settings over the stored runs of
it, oldest first; a point is the median of a run. Change points are found on logarithms, after
values that stand alone were clipped (F. R. Hampel, JASA 69, 1974), by PELT (R. Killick, P.
Fearnhead, I. A. Eckley, JASA 107, 2012) for changes of the mean. This is for people who look, and
decides nothing: see docs/gate.md.
"""

from __future__ import annotations

import dataclasses
import io
import json
import math
import subprocess
import sys
import tarfile
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from results import foreign, machines, settings, store
from results.announce import label
from results.records import Case
from results.store import Run, StoreError
from results.summary import measured

#: Metrics whose history is kept.
METRICS = (
    *("step_time", "latency_p50", "host_peak_bytes", "first_call_time", "artifact_bytes"),
    *("items_per_second", "bytes_per_second", "process_peak_bytes", "object_bytes"),
)
CLIP, NEIGHBOURS = 3.0, 3  # standard deviations; points to either side
LEAST_POINTS = 6  # of a series, before a change is looked for
SEGMENT = 2  # points between two changes, at least
#: Penalty of a change, in variances of the noise times the logarithm of the number of points. BIC
#: would have 2 for its mean and its place; more keeps short series quiet.
PENALTY = 5.0
MAD = 1.4826  # standard deviations of a normal distribution in its median absolute deviation


@dataclass(frozen=True)
class Point:
    """The median of a metric in one run, its interval, and the versions that it was run with."""

    run_id: str
    started: str
    value: float
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Change:
    """From the point at `index` on, values are `ratio` times what they were. `versions` are the
    sentences about versions that changed with it."""

    index: int
    ratio: float
    versions: tuple[str, ...]


@dataclass(frozen=True)
class Series:
    """One metric of one case on one machine, with the same settings, oldest first."""

    case: Case
    metric: str
    machine: str
    settings: str
    points: tuple[Point, ...]
    changes: tuple[Change, ...]


@contextmanager
def stored(root: Path, branch: str | None = None) -> Iterator[list[Run]]:
    """The runs in a folder, oldest first; or those in a folder of a git revision,
    `[REPOSITORY@]REVISION:FOLDER`. Files of other tools are a run per machine, Python and commit.
    Raises StoreError where git does not have it."""
    if branch is None:
        yield _runs(root)
        return
    repository, _, rest = branch.rpartition("@")
    revision, _, folder = rest.partition(":")
    with tempfile.TemporaryDirectory(prefix="assay-history-") as scratch:
        command = ["git", "-C", repository or ".", "archive", "--format=tar", revision]
        done = subprocess.run([*command, *([folder] if folder else [])], capture_output=True)
        if done.returncode:
            why = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
            raise StoreError(f"git has no runs in {branch}: {''.join(why)}")
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
            archive.extractall(scratch, filter="data")
        yield _runs(Path(scratch) / folder)


def _runs(root: Path) -> list[Run]:
    if foreign.is_foreign(root):
        return foreign.runs(root)
    return [store.read(folder) for folder in store.run_folders(root)]


def series(runs: Iterable[Run], *, metrics: Sequence[str] = METRICS) -> list[Series]:
    """The series of runs, each with its changes. Runs that did not record their machine are of one
    machine with each other only."""
    found: dict[tuple[Case, str, str, str], list[Point]] = defaultdict(list)
    for run in runs:
        fine = {outcome.case for outcome in run.outcomes if outcome.status == "ok"}
        machine, made = machines.name(run.environment), settings.name(run.environment)
        lines, where = foreign.lines(run), machines.places(run.facts)
        versions = machines.versions(run.environment)
        for figure in measured(run.measurements):
            if figure.metric in metrics and figure.case in fine and figure.value.median > 0:
                started = str(run.environment.get("started", ""))
                point = Point(run.run_id, started, figure.value.median, versions)
                settled = lines.get(figure.case, made)
                ran_on = where[figure.case].split()[-1] if figure.case in where else machine
                found[figure.case, figure.metric, ran_on, settled].append(point)
    return [
        Series(*key, tuple(points), tuple(changes(points)))
        for key, points in sorted(found.items(), key=lambda item: item[0])
    ]


def changes(points: Sequence[Point]) -> list[Change]:
    """Where the level of a series changes."""
    values = [point.value for point in points]
    places = [0, *change_points(values), len(values)]
    found = []
    for before, here, after in zip(places, places[1:], places[2:], strict=False):
        levels = [float(np.median(values[a:b])) for a, b in ((before, here), (here, after))]
        told = machines.version_changes(points[here].versions, points[here - 1].versions)
        found.append(Change(here, levels[1] / levels[0], tuple(told)))
    return found


def change_points(values: Sequence[float]) -> list[int]:
    """Places of the first values of a new level, in order. None in a series that is too short, and
    none where nothing scatters."""
    logs = clipped(np.log(np.asarray(values, dtype=float)))
    n = len(logs)
    if n < LEAST_POINTS:
        return []
    # between neighbours, so that a change of level counts once
    spread = float(MAD * np.median(np.abs(np.diff(logs)))) / math.sqrt(2)
    if spread == 0:
        spread = float(np.std(np.diff(logs))) / math.sqrt(2)
    if spread == 0:
        return []
    import ruptures  # takes a second to import

    penalty = PENALTY * spread**2 * math.log(n)
    model = ruptures.Pelt(model="l2", min_size=SEGMENT, jump=1).fit(logs.reshape(-1, 1))
    return [int(place) for place in model.predict(pen=penalty)[:-1]]


def clipped(values: np.ndarray) -> np.ndarray:
    """Values that are far from their neighbours' median, moved to where they are just not."""
    found = values.copy()
    for i in range(len(values)):
        near = values[max(0, i - NEIGHBOURS) : i + NEIGHBOURS + 1]
        middle = float(np.median(near))
        far = CLIP * MAD * float(np.median(np.abs(near - middle)))
        if far > 0:
            found[i] = min(max(values[i], middle - far), middle + far)
    return found


def to_json(found: Iterable[Series]) -> str:
    """Series as JSON."""
    return json.dumps(
        [{"key": label(one.case), **dataclasses.asdict(one)} for one in found], indent=1
    )


def run_gate(target: str, key: str, results: Path) -> int:
    """The exit code of a gate on one case against a target."""
    pattern = key.replace("/", " and ")
    command = [sys.executable, "-m", "pytest", "suites/gate", "--benchmark", "--against", target]
    done = subprocess.run(
        [*command, "-k", pattern, "--results", str(results), "--report", "none"],
        capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode not in (0, 1):
        print(done.stdout[-2000:], done.stderr[-2000:], file=sys.stderr)
    return done.returncode


def first_without(targets: Sequence[str], regressed: Callable[[str], bool]) -> int:
    """The place of the first target, oldest first, against which head is not slower: with it the
    step came in. `regressed(target)` runs a gate, of which there are about log2 of the number of
    targets. The number of targets where head is slower than all of them: then it came in later."""
    low, high = 0, len(targets)
    while low < high:
        middle = (low + high) // 2
        if regressed(targets[middle]):
            low = middle + 1
        else:
            high = middle
    return low
