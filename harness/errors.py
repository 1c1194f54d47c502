"""What a framework raises, as an outcome's status and reason."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

from adapters import base
from adapters.base import Adapter, Unsupported
from harness.turns import Divergent

FRAMES = 3  # of a traceback, in a reason; all of it is in the worker's log
_WIDTH = 200  # characters of a frame
_OWN = Path(__file__).resolve().parent  # whose frames say nothing about an adapter


def explained(error: Exception, adapter: Adapter) -> dict[str, str]:
    """{"status", "reason"} of an exception in a worker. The reason of what is no lack of support
    ends with the innermost frames of its traceback, most recent call last."""
    if isinstance(error, Unsupported):
        return {"status": "unsupported", "reason": str(error)}
    if isinstance(error, Divergent):
        return {"status": "divergent", "reason": str(error)}
    if method := _undefined(error):
        told = f"the adapter has no {method}, which it has to define (docs/extending.md)"
        return {"status": "failed", "reason": told}
    reason = f"{type(error).__name__}: {_headline(str(error))}"[:500]
    if adapter.is_missing_kernel(error):
        return {"status": "unsupported", "reason": f"no kernel: {reason}"}
    status = "failed"
    if isinstance(error, MemoryError) or adapter.is_out_of_memory(error):
        status = "out_of_memory"
    return {"status": status, "reason": "\n".join([reason, *frames(error)])}


def _headline(text: str) -> str:
    """The first line of a message; and where that only announces one, as TensorFlow's `Graph
    execution error:` does, the first line of its last paragraph."""
    paragraphs = [part.strip() for part in text.split("\n\n") if part.strip()]
    lines = [part.splitlines()[0].strip() for part in paragraphs] or [""]
    announced = lines[0].endswith(":") and len(lines) > 1
    return f"{lines[0]} {lines[-1]}" if announced else lines[0]


def _undefined(error: BaseException) -> str:
    """The method of `adapters.base` that was called and is left to the adapter to define, such as
    `Program.wait`; empty where that is not what was raised."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None or not isinstance(error, NotImplementedError):
        return ""
    code = trace.tb_frame.f_code
    return code.co_qualname if code.co_filename == base.__file__ else ""


def frames(error: BaseException) -> list[str]:
    """`  FILE:LINE in FUNCTION: CODE` of the last frames that are not the harness's own."""
    stack = traceback.extract_tb(error.__traceback__)
    foreign = [
        frame
        for frame in stack
        if _OWN not in Path(frame.filename).parents and not frame.filename.startswith("<frozen")
    ]
    return [
        f"  {_shortened(frame.filename)}:{frame.lineno} in {frame.name}: {frame.line}"[:_WIDTH]
        for frame in foreign[-FRAMES:]
    ]


def _shortened(filename: str) -> str:
    """A file as it is imported: `torch/nn/functional.py`, wherever it is installed."""
    path = Path(filename)
    roots = [Path(entry) for entry in sys.path if entry]
    inside = [path.relative_to(root) for root in roots if root in path.parents]
    return str(min(inside, key=lambda relative: len(relative.parts), default=path))
