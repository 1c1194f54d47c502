"""Records as pandas DataFrames: what tables, charts and exports are made from.

Every frame but `limits`, which is about the machine, starts with the columns CASE (the fields of
a case) and `key`. Together with the suite the key names a case; rows are joined on all case
fields, since a name may contain a slash.
"""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from results import machines
from results.derived import derived
from results.describe import NO_OUTCOME
from results.foreign import TOOLS
from results.records import Agreement, Case, CaseRecord, Facts, Limit
from results.store import Run
from results.summary import Figure, measured

CASE = tuple(field.name for field in dataclasses.fields(Case))

#: From best to worst; 0 says nothing about the case.
BADNESS = {
    "null-gradient": 0,
    "unreferenced": 0,
    "unsupported": 0,
    "identical": 1,
    "bitwise": 2,
    "rounding-equal": 3,
    "precision-equal": 4,
    "deviation": 5,
    "mistrusted": 6,
    "divergent": 7,
}

#: Verdicts beside which figures may be published: something was compared, and it agreed.
PUBLISHABLE = ("identical", "bitwise", "rounding-equal", "precision-equal")

_NUMBERS = {
    **dict.fromkeys(("batch", "threads", "length", "tensors"), "int64"),
    **dict.fromkeys(("process", "round", "steps_per_round"), "int64"),
    **dict.fromkeys(("rounds", "processes"), "int64"),
    **dict.fromkeys(("value", "seconds", "error", "floor", "ratio", "ulp"), "float64"),
    **dict.fromkeys(("median", "low", "high", "level"), "float64"),
}
_WORST = ("verdict", "quantity", "tensor", "error", "floor", "ratio", "reference", "judgement")


def measurements(run: Run) -> pd.DataFrame:
    """One row per value: CASE, key, metric, unit, process, round, value, steps_per_round, flags
    (separated by commas), status and published of its case (see `cases`). `round` counts from 0
    within a record. What was recorded before its case failed is there, and is not `published`."""
    rows = [(record, i) for record in run.measurements for i in range(len(record.values))]
    columns: dict[str, list[Any]] = {
        "metric": [record.metric for record, _ in rows],
        "unit": [record.unit for record, _ in rows],
        "process": [record.process for record, _ in rows],
        "round": [i for _, i in rows],
        "value": [float(record.values[i]) for record, i in rows],
        "steps_per_round": [record.steps_per_round for record, _ in rows],
        "flags": [",".join(record.flags) for record, _ in rows],
    }
    state = cases(run)[[*CASE, "key", "status", "published"]]
    return _frame([record.case for record, _ in rows], columns).merge(
        state, on=[*CASE, "key"], how="left"
    )


def agreements(run: Run) -> pd.DataFrame:
    """One row per tensor and reference: CASE, key, quantity, tensor, error, floor, ratio, ulp
    (nan where there is none, inf where shapes or NaN masks differ), verdict, reference, reason."""
    records = run.agreements
    columns: dict[str, list[Any]] = {
        name: [getattr(record, name) for record in records]
        for name in ("quantity", "tensor", "verdict", "reference", "reason")
    }
    for name in ("error", "floor", "ratio", "ulp"):
        columns[name] = [_float(getattr(record, name)) for record in records]
    order = (
        "quantity", "tensor", "error", "floor", "ratio", "ulp", "verdict", "reference", "reason",
    )  # fmt: skip
    return _frame([r.case for r in records], {name: columns[name] for name in order})


def outcomes(run: Run) -> pd.DataFrame:
    """One row per case that ended: CASE, key, status, reason, seconds, reproduce."""
    records = run.outcomes
    columns: dict[str, list[Any]] = {
        name: [getattr(record, name) for record in records]
        for name in ("status", "reason", "seconds", "reproduce")
    }
    columns["seconds"] = [float(value) for value in columns["seconds"]]
    return _frame([record.case for record in records], columns)


def verdicts(run: Run) -> pd.DataFrame:
    """One row per judged case: CASE, key, its worst verdict, the worst tensor that has this
    verdict (quantity, tensor, error, floor, ratio, reference, judgement: the judge's reason) and
    `tensors`, the number of tensors judged.

    The worst tensor is the one with the largest ratio where there is a noise floor, else with
    the largest error. Null gradients and tensors without a reference count only where there is
    nothing else.
    """
    judged = _grouped(run.agreements)
    worst = [_worst(records) for records in judged.values()]
    columns = {name: [_worst_field(record, name) for record in worst] for name in _WORST}
    columns["tensors"] = [len({(r.quantity, r.tensor) for r in rs}) for rs in judged.values()]
    return _frame(list(judged), columns)


def cases(run: Run) -> pd.DataFrame:
    """One row per case that the run mentions, in the order of first mention: CASE, key, the
    columns of `outcomes` (status NO_OUTCOME where the run stopped too early), those of
    `verdicts` (verdict "" where nothing was judged), and `published`.

    published is True where figures of the case may be shown: it ended `ok`, and its verdict is
    one of PUBLISHABLE. Figures of other tools, whose results nobody judged, are shown as such.
    """
    named = list(
        dict.fromkeys(record.case for record in run.records if isinstance(record, CaseRecord))
    )
    on = [*CASE, "key"]
    table = _frame(named, {}).merge(outcomes(run), on=on, how="left")
    table = table.merge(verdicts(run), on=on, how="left")
    unknown = {"status": NO_OUTCOME, "reason": "the run stopped before this case ended"}
    text = ("reproduce", "verdict", "quantity", "tensor", "reference", "judgement")
    table = table.fillna(unknown | dict.fromkeys(text, "") | {"tensors": 0})
    table["tensors"] = table["tensors"].astype(int)
    agreed = table["verdict"].isin(PUBLISHABLE) | table["suite"].isin(list(TOOLS))
    table["published"] = (table["status"] == "ok") & agreed
    return table


def summary(run: Run) -> pd.DataFrame:
    """One row per case and metric, measured ones first, then those that `results.derived` makes
    of them: CASE, key, metric, unit, median, low, high, level, method, rounds, processes, flags,
    note (see `results.summary.Figure`), status, verdict, published.

    Show figures only of rows that are `published` (see `cases`).
    """
    state = cases(run)[[*CASE, "status", "verdict", "published"]]
    shown = {
        Case(**{name: row[name] for name in CASE})
        for row in state[state["published"]].to_dict("records")
    }
    figures = measured(run.measurements)
    figures += _derived([f for f in figures if f.case in shown], run)
    columns: dict[str, list[Any]] = {
        "metric": [figure.metric for figure in figures],
        "unit": [figure.unit for figure in figures],
        **{
            name: [getattr(figure.value, name) for figure in figures]
            for name in ("median", "low", "high", "level", "method")
        },
        "rounds": [figure.rounds for figure in figures],
        "processes": [figure.processes for figure in figures],
        "flags": [",".join(sorted(figure.flags)) for figure in figures],
        "note": [figure.note for figure in figures],
    }
    table = _frame([figure.case for figure in figures], columns)
    return table.merge(state, on=list(CASE), how="left")


def _derived(figures: Sequence[Figure], run: Run) -> list[Figure]:
    """What follows from the figures of each machine that ran cases, and from its own limits."""
    where, known = machines.places(run.facts), _limits(run)
    by_machine: dict[str, list[Figure]] = defaultdict(list)
    for figure in figures:
        by_machine[where.get(figure.case, "")].append(figure)
    return [
        made
        for machine, own in by_machine.items()
        for made in derived(own, [limit for limit in known if limit.machine == machine])
    ]


def limits(run: Run) -> pd.DataFrame:
    """One row per limit of the machine: limit, unit, value, adapter, device, threads, measured,
    machine; of each limit and device the largest, which is the machine's, first."""
    names = [field.name for field in dataclasses.fields(Limit)]
    found = sorted(_limits(run), key=lambda x: (x.device, x.limit, -x.value, x.adapter))
    frame = pd.DataFrame({name: [getattr(x, name) for x in found] for name in names})
    return frame.astype({name: _NUMBERS.get(name, "str") for name in names})


def _limits(run: Run) -> list[Limit]:
    return [record for record in run.records if isinstance(record, Limit)]


def worst_tensors(records: Iterable[Agreement], *, limit: int = 5) -> list[Agreement]:
    """The agreements of one case from the worst on, at most `limit`."""
    return sorted(records, key=_badness, reverse=True)[:limit]


def facts_by_case(run: Run) -> dict[Case, list[Facts]]:
    """The effective configurations that each case reported, in the order of the records."""
    return _grouped(run.facts)


def agreements_by_case(run: Run) -> dict[Case, list[Agreement]]:
    return _grouped(run.agreements)


def _worst(records: Iterable[Agreement]) -> Agreement:
    return max(records, key=_badness)


def _badness(record: Agreement) -> tuple[int, float, float]:
    ratio = -1.0 if record.ratio is None else record.ratio
    return BADNESS[record.verdict], ratio, record.error


def _worst_field(record: Agreement, name: str) -> Any:
    if name in ("error", "floor", "ratio"):
        return _float(getattr(record, name))
    return record.reason if name == "judgement" else getattr(record, name)


def _grouped(records: Iterable[Any]) -> dict[Case, list[Any]]:
    groups: dict[Case, list[Any]] = defaultdict(list)
    for record in records:
        groups[record.case].append(record)
    return dict(groups)


def _float(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _frame(named: Sequence[Case], columns: dict[str, list[Any]]) -> pd.DataFrame:
    """A frame with one row per case of `named`, with the same column types when it is empty."""
    table: dict[str, list[Any]] = {name: [getattr(case, name) for case in named] for name in CASE}
    table["key"] = [case.key for case in named]
    frame = pd.DataFrame(table | columns)
    return frame.astype({name: _NUMBERS.get(name, "str") for name in frame.columns})
