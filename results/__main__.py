"""`python -m results list|show|export`: stored runs, without any framework.

Exit codes: 0 fine, 2 usage error, 3 there is nothing to show.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from results import store
from results.command_line import FINE, NOTHING, RUN_HELP, USAGE, Parser, add_results
from results.store import Run, StoreError


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    options = _parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # an old code page has no µ
            stream.reconfigure(errors="backslashreplace")
    try:
        code: int = options.run(options)
        sys.stdout.flush()
        return code
    except StoreError as error:
        print(f"results: {error}", file=sys.stderr)
        return USAGE
    except BrokenPipeError:  # the reader, `head` for example, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FINE
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(f"results: cannot write the answer: {error.strerror}", file=sys.stderr)
        return USAGE


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m results", description="Lists, shows and exports stored runs.")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=Parser)

    shared = Parser(add_help=False)
    add_results(shared)
    listing = commands.add_parser("list", parents=[shared], help="all stored runs")
    listing.set_defaults(run=_list)

    show = commands.add_parser("show", parents=[shared], help="verdicts and figures of a run")
    show.add_argument("name", metavar="RUN", nargs="?", default="latest", help=RUN_HELP)
    show.set_defaults(run=_show)

    export = commands.add_parser("export", parents=[shared], help="a run for other programs")
    export.add_argument("name", metavar="RUN", help=RUN_HELP)
    export.add_argument("--format", default="csv", choices=("csv", "json", "parquet"))
    export.add_argument(
        "--what",
        default="measurements",
        choices=("measurements", "agreements", "outcomes", "summary", "limits"),
        help="one row per value, per tensor, per case, per case and metric, or per limit of the "
        "machine (default: %(default)s)",
    )
    export.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="default: standard output (not parquet)"
    )
    export.set_defaults(run=_export)
    return parser


def _list(options: argparse.Namespace) -> int:
    from results import describe, tables  # rich and pandas take a while to import

    folders = store.run_folders(options.results)
    if not folders:
        print(f"results: no runs are stored in {options.results}", file=sys.stderr)
        return NOTHING
    _print(
        tables.listing([(f.name, _read_if_possible(f), describe.folder_bytes(f)) for f in folders])
    )
    return FINE


def _show(options: argparse.Namespace) -> int:
    from results import describe, frame, tables

    run = _read(options)
    environment = run.environment
    head = [run.run_id, describe.started(environment), describe.machine(environment)]
    _print("  ".join(tables.text(part) for part in head if part))
    _print(describe.sentence(run))
    if not run.records:
        return NOTHING
    if describe.status_counts(run):
        _print("", tables.conformance(run))
    summary = frame.summary(run)
    published = summary[summary["published"]]
    if len(published):
        _print("", tables.measured(published), *tables.flag_lines(published))
    limits = frame.limits(run)
    if len(limits):
        _print("", tables.limits(limits))
    withheld = len(summary) - len(published)
    if withheld:
        _print("", f"Not shown: {withheld} figures of cases that are not ok or were not judged.")
    return FINE


def _export(options: argparse.Namespace) -> int:
    from results import atomic, export

    if options.format == "parquet" and options.output is None:
        raise StoreError("parquet cannot go to standard output; name a file with -o FILE")
    run = _read(options)
    table = export.TABLES[options.what](run)
    data = export.encode(table, options.format)
    if options.output is None:
        sys.stdout.buffer.write(data)
    else:
        atomic.write(options.output, data)
    if table.empty:
        print(f"results: run {run.run_id} has no {options.what}", file=sys.stderr)
        return NOTHING
    return FINE


def _read(options: argparse.Namespace) -> Run:
    """The run that was asked for; what could not be read of it is printed as warnings."""
    run = store.read(store.find(options.results, options.name))
    from results import tables

    for problem in run.problems:
        print(f"warning: {tables.text(problem, limit=400)}", file=sys.stderr)
    return run


def _read_if_possible(folder: Path) -> Run | None:
    try:
        return store.read(folder)
    except StoreError:
        return None


def _print(*parts: Any) -> None:
    """Prints texts and tables. Into a file or pipe, tables are as wide as they need to be."""
    from rich.console import Console

    out: IO[str] = sys.stdout
    console = Console(file=out, width=None if out.isatty() else 10_000, highlight=False)
    with console.capture() as capture:
        for part in parts:
            console.print(part, markup=False)
    out.write(capture.get())


if __name__ == "__main__":
    sys.exit(main())
