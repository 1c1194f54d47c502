"""A stored run as a tidy table for other programs: CSV, JSON or Parquet."""

from __future__ import annotations

import importlib.util
import io
import json
import math
from collections.abc import Callable
from typing import Any

import pandas as pd

from results import frame
from results.store import Run, StoreError

FORMATS = ("csv", "json", "parquet")

#: What can be exported -> the table. One row is: a value, a tensor, a case, a case's metric, a
#: limit of the machine.
TABLES: dict[str, Callable[[Run], pd.DataFrame]] = {
    "measurements": frame.measurements,
    "agreements": frame.agreements,
    "outcomes": frame.outcomes,
    "summary": frame.summary,
    "limits": frame.limits,
}


def available() -> list[tuple[str, str]]:
    """(table, format) of the files that a site offers: everything as Parquet, where pyarrow is
    installed, and what is small enough to be read in a text editor as CSV and JSON."""
    found = [(name, form) for name in ("summary", "outcomes") for form in ("csv", "json")]
    if importlib.util.find_spec("pyarrow") is not None:
        found += [(name, "parquet") for name in TABLES]
    return sorted(found)


def encode(table: pd.DataFrame, form: str) -> bytes:
    """The table in one of FORMATS. Raises StoreError where Parquet is asked for and cannot be
    written."""
    if form == "csv":
        return table.to_csv(index=False, lineterminator="\n").encode()
    if form == "json":
        return _json(table).encode()
    if form == "parquet":
        return _parquet(table)
    raise ValueError(f"format is {form!r}, but should be one of {', '.join(FORMATS)}")


def _json(table: pd.DataFrame) -> str:
    """An array with one object per line. JSON lacks nan and infinity: nan becomes null and
    infinity the string "inf", as in records."""
    names = list(table.columns)
    rows = [
        json.dumps({n: _plain(v) for n, v in zip(names, row, strict=True)}, ensure_ascii=False)
        for row in table.itertuples(index=False, name=None)
    ]
    return "[\n" + ",\n".join(rows) + "\n]\n" if rows else "[]\n"


def _plain(value: Any) -> Any:
    """`value` as json knows it; pandas hands out NumPy scalars."""
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "inf"
    return value


def _parquet(table: pd.DataFrame) -> bytes:
    if importlib.util.find_spec("pyarrow") is None:
        raise StoreError(
            "parquet needs the package pyarrow, which is not installed: "
            "`pip install pyarrow`, or choose --format csv"
        )
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False, engine="pyarrow")
    return buffer.getvalue()
