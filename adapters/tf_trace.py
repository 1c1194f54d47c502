"""TensorFlow's profile as a trace that Chrome and Perfetto open.

TensorFlow writes an XSpace only, and the converter for it is another package (xprof).
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tensorflow.tsl.profiler.protobuf import xplane_pb2


def convert(space: Path, trace: Path) -> Path:
    """Writes `trace` (.json.gz) from the XSpace in `space`. A plane, which is a device or a host,
    becomes a process, and a line in it a thread."""
    planes = xplane_pb2.XSpace.FromString(space.read_bytes()).planes
    events = [event for number, plane in enumerate(planes) for event in _events(number, plane)]
    with gzip.open(trace, "wt", encoding="utf-8") as file:
        json.dump({"displayTimeUnit": "ns", "traceEvents": events}, file)
    return trace


def _events(process: int, plane: Any) -> Iterator[dict[str, Any]]:
    yield {"ph": "M", "pid": process, "name": "process_name", "args": {"name": plane.name}}
    for thread, line in enumerate(plane.lines):
        place = {"pid": process, "tid": thread}
        yield {"ph": "M", **place, "name": "thread_name", "args": {"name": line.name}}
        for event in line.events:
            yield {
                "ph": "X",
                **place,
                "name": plane.event_metadata[event.metadata_id].name,
                "ts": line.timestamp_ns / 1e3 + event.offset_ps / 1e6,  # microseconds
                "dur": event.duration_ps / 1e6,
            }
