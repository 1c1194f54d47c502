"""The child process: loads one adapter, answers requests until its standard input closes.

`python -P -m harness.worker --adapter MODULE --answers FD [--processors 0,1] [--folders A:B]`.
Needs numpy and the adapter's framework; nothing else. What it can be asked is in
`harness.requests`; the parent's end is `harness.client`.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any

from harness.errors import explained, frames
from harness.protocol import decode, encode
from harness.requests import Requests

PR_SET_PDEATHSIG = 1


def _serve(requests: Requests, answer: Callable[[dict[str, Any]], None]) -> None:
    for line in sys.stdin.buffer:
        request = decode(line)
        try:
            method = getattr(requests, request["op"])
            answer({"id": request["id"], "result": method(**request["arguments"])})
        except Exception as error:
            traceback.print_exc()
            sys.stderr.flush()  # before the parent keeps a copy
            answer({"id": request["id"], "error": explained(error, requests.adapter)})


def _missing(error: ImportError, module: str) -> dict[str, str]:
    """An adapter that cannot be imported: its framework is missing, or it is broken."""
    traceback.print_exc()
    itself = f"{module}.".startswith(f"{error.name}.")
    if isinstance(error, ModuleNotFoundError) and error.name and not itself:
        package = error.name.split(".")[0]
        reason = f"Python package {package!r} is not installed in {sys.executable}"
        return {"status": "unsupported", "reason": reason}
    return {"status": "failed", "reason": f"{type(error).__name__}: {error}".splitlines()[0]}


def _die_with_parent() -> None:
    """A parent that is killed leaves no worker behind, not even one that hangs."""
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m harness.worker")
    parser.add_argument("--adapter", required=True, help="dotted path of the adapter's module")
    parser.add_argument("--answers", required=True, type=int, help="file descriptor for answers")
    parser.add_argument("--processors", default="", help="run on these alone: 0,1,...")
    parser.add_argument("--folders", default="", help="where packages are looked for first")
    arguments = parser.parse_args()
    _die_with_parent()
    if arguments.processors:  # before any thread starts: they inherit it
        os.sched_setaffinity(0, {int(n) for n in arguments.processors.split(",")})
    # in front of everything, but after Assay's own packages, which are imported already: a folder
    # with an adapter may hold a `numerics.py`
    sys.path[:0] = [folder for folder in arguments.folders.split(os.pathsep) if folder]
    pipe = os.fdopen(arguments.answers, "wb", buffering=0)

    def answer(message: dict[str, Any]) -> None:
        line = encode(message)
        while line:
            line = line[pipe.write(line) :]

    try:
        requests = Requests(arguments.adapter)
        hello = requests.hello()
    except ImportError as error:
        answer({"id": 0, "error": _missing(error, arguments.adapter)})
        return
    except Exception as error:
        traceback.print_exc()
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        reason = "\n".join([reason, *frames(error)])
        answer({"id": 0, "error": {"status": "failed", "reason": reason}})
        return
    answer({"id": 0, "result": hello})
    _serve(requests, answer)


if __name__ == "__main__":
    main()
