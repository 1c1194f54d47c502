"""`python -m adapters list`: which adapters and models there are, without importing a framework.

Each adapter is asked in a process of its own, which runs `python -m adapters describe MODULE`. That
prints chatter, if the framework wants it, and then one line of JSON: a `Description` or
{"reason": why there is none}. Exit codes: 0 fine, also where adapters are not installed, 2 usage.
"""

from __future__ import annotations

import argparse
import importlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

from adapters import releases
from adapters.registry import Registry, UnknownName

PROJECT = Path(__file__).resolve().parent.parent
AT_ONCE = 2  # processes; a framework takes seconds of a core, and much memory, to import
TIMEOUT = 60.0  # seconds
FINE, USAGE = 0, 2

#: What an adapter says of itself, with the value shown where it says nothing.
NOTHING_KNOWN: dict[str, Any] = {
    "framework": "", "versions": {}, "devices": [], "precisions": [], "compile_cache": False,
}  # fmt: skip


class Parser(argparse.ArgumentParser):
    """A parser whose usage errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    options = _parser().parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a module's name may be anything
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code: int = options.run(options)
        sys.stdout.flush()
        return code
    except UnknownName as error:
        print(f"adapters: {error}", file=sys.stderr)
        return USAGE
    except BrokenPipeError:  # the reader, `head` for example, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FINE


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m adapters", description="Lists adapters and models.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="list")
    listing = commands.add_parser("list", help="what can be measured here")
    listing.add_argument("--json", action="store_true", help="for programs")
    listing.add_argument(
        "--adapters", default="", metavar="A,B", help="only these adapters (default: all)"
    )
    listing.add_argument(
        "--adapter-module", action="append", default=[], metavar="MODULE|FILE",
        help="a module with a class Adapter, or its file; may be repeated",
    )  # fmt: skip
    listing.add_argument(
        "--python", action="append", default=[], metavar="ADAPTER=PATH",
        help="ask an adapter under another interpreter; may be repeated",
    )  # fmt: skip
    listing.set_defaults(run=_list)
    # without `help`, so that it is not listed
    describing = commands.add_parser("describe", description="Describes one adapter, as JSON.")
    describing.add_argument("module", metavar="MODULE")
    describing.set_defaults(run=_describe)
    return parser


# -- one adapter, in a process of its own ----------------------------------------------------------


def _describe(options: argparse.Namespace) -> int:
    """The child's side: the only function here that imports a framework."""
    print("\n" + json.dumps(describe(options.module)), flush=True)
    return FINE


def describe(module: str) -> dict[str, Any]:
    """`NOTHING_KNOWN`'s keys as the adapter in `module` fills them, or {"reason": why not}."""
    try:
        adapter = importlib.import_module(module).Adapter()
        return {
            "framework": adapter.framework,
            "versions": dict(adapter.versions()),
            "devices": list(adapter.devices()),
            "precisions": list(adapter.precisions),
            "compile_cache": adapter.compile_cache,
        }
    except ModuleNotFoundError as error:
        missing = error.name or str(error)
        if f"{module}.".startswith(f"{missing}."):
            return {"reason": f"there is no module {module!r}"}
        return {"reason": f"Python package {missing!r} is not installed"}
    except Exception as error:  # whatever a framework raises is the reason
        return {"reason": f"{type(error).__name__}: {error}"}


def ask(
    module: str,
    *,
    python: str = sys.executable,
    timeout: float = TIMEOUT,
    folders: Sequence[Path] = (),
) -> dict[str, Any]:
    """`describe(module)` under the interpreter `python`, within `timeout` seconds; a process that
    crashes, hangs or talks rubbish is a reason too. `folders` are looked in beside the usual
    places; the working directory is not."""
    inherited = os.environ.get("PYTHONPATH", "")
    path = os.pathsep.join(filter(None, [str(PROJECT), *map(str, folders), inherited]))
    try:
        done = subprocess.run(
            [python, "-P", "-m", "adapters", "describe", "--", module],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False,
            env={**os.environ, "PYTHONPATH": path}, encoding="utf-8", errors="replace",
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"reason": f"gave no answer within {timeout:g} s"}
    except (OSError, ValueError) as error:  # no executable; a name with a null character
        return {"reason": f"cannot be started: {error}"}
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it printed no error"])[-1]
        how = f"signal {-done.returncode}" if done.returncode < 0 else f"exit {done.returncode}"
        return {"reason": f"crashed ({how}): {last}"}
    answer = _parsed((done.stdout.strip().splitlines() or [""])[-1])
    return answer or {"reason": "gave an answer that cannot be read"}


def _parsed(line: str) -> dict[str, Any] | None:
    """The answer in `line`; None where it is none."""
    try:
        answer = json.loads(line)
    except ValueError:
        return None
    if not isinstance(answer, dict):
        return None
    if answer.keys() == {"reason"}:
        return {"reason": str(answer["reason"])}
    like = {name: type(value) for name, value in NOTHING_KNOWN.items()}
    if {name: type(value) for name, value in answer.items()} != like:
        return None
    texts = [*answer["versions"].values(), *answer["devices"], *answer["precisions"]]
    return answer if all(isinstance(text, str) for text in texts) else None


# -- everything ------------------------------------------------------------------------------------


def adapters(
    registry: Registry, names: Sequence[str], pythons: Mapping[str, str]
) -> list[dict[str, Any]]:
    """One row per adapter. `version` is that of the framework the adapter runs on."""

    def row(name: str) -> dict[str, Any]:
        python = pythons.get(name, sys.executable)
        told = ask(registry.module(name), python=python, folders=registry.folders)
        known = {**NOTHING_KNOWN, **told}
        reason = known.pop("reason", "")
        bad = releases.bad(known["versions"])
        version = known["versions"].get(known["framework"])
        return {
            "name": name, "installed": not reason, "version": version, **known, "reason": reason,
            "known_bad": bad,
        }  # fmt: skip

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(row, names))


def models() -> list[dict[str, Any]]:
    """One row per model: `sizes` counts each at its own batch and recipe, in float32."""
    from adapters import model
    from adapters.counting import count

    rows = []
    for name in model.names():
        found = model.get(name)
        sizes = {}
        for size, batch in found.batch.items():
            step = {mode: count(found, size, batch=batch, mode=mode) for mode in ("infer", "train")}
            sizes[size] = {
                "parameters": step["infer"].parameters,
                "flops_per_example": step["infer"].flops_per_example,
                "batch": batch,
                **{m: {"flops": c.flops, "bytes": c.bytes} for m, c in step.items()},
            }
        lengths = list(found.lengths)
        rows.append({"name": name, "recipe": found.recipe, "sizes": sizes, "lengths": lengths})
    return rows


def _list(options: argparse.Namespace) -> int:
    registry = Registry.load(options.adapter_module)
    names = registry.select([name for name in options.adapters.split(",") if name])
    found = {"adapters": adapters(registry, names, _pythons(options.python, registry)),
             "models": models()}  # fmt: skip
    if options.json:
        print(json.dumps(found, indent=1, allow_nan=False))
    else:
        _show(found)
    return FINE


def _pythons(options: Sequence[str], registry: Registry) -> dict[str, str]:
    """Adapter -> the path of its interpreter, from ADAPTER=PATH. Raises UnknownName."""
    found = {}
    for text in options:
        name, _, path = text.partition("=")
        registry.select([name])
        if not (os.path.isfile(path) and os.access(path, os.X_OK)):
            raise UnknownName(f"--python {text}: {path or 'nothing'} is not an executable file")
        found[name] = path
    return found


def _show(found: Mapping[str, Any]) -> None:
    """Two aligned tables for a terminal."""
    from rich.console import Console
    from rich.text import Text

    # wide where nobody looks, so that a row is one line for the program that reads it
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 200, highlight=False)
    console.print(
        _table(
            ["adapter", "framework", "devices", "precisions", "why not"],
            [
                [
                    row["name"],
                    " ".join([row["framework"], row["version"] or ""]).strip(),
                    ", ".join(row["devices"]),
                    ", ".join(row["precisions"]),
                    row["reason"],
                ]
                for row in found["adapters"]
            ],
        )
    )
    told: dict[str, list[str]] = {}  # sentence -> adapters
    for row in found["adapters"]:
        for sentence in row["known_bad"]:
            told.setdefault(sentence, []).append(row["name"])
    for sentence, names in told.items():
        console.print(Text(f"\nwarning, {', '.join(names)}: {_visible(sentence)}"))
    console.print()
    numbers = ["parameters", "batch", "FLOPs per example", "infer FLOPs", "train FLOPs"]
    console.print(
        _table(
            ["model", "size", "recipe", *numbers],
            [
                [
                    row["name"],
                    name,
                    row["recipe"],
                    f"{size['parameters']:,}",
                    f"{size['batch']:,}",
                    f"{size['flops_per_example']:,.0f}",
                    f"{size['infer']['flops']:,}",
                    f"{size['train']['flops']:,}",
                ]
                for row in found["models"]
                for name, size in row["sizes"].items()
            ],
            right=numbers,
        )
    )


def _table(names: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        side: Any = "right" if name in right else "left"
        table.add_column(name, justify=side, overflow="fold")
    for row in rows:
        table.add_row(*(Text(_visible(cell)) for cell in row))
    return table


def _visible(text: str) -> str:
    """`text` without characters that command a terminal: names and reasons are data."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


if __name__ == "__main__":
    raise SystemExit(main())
