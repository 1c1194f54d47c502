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
from results.command_line import FINE, NOTHING, RUN_HELP, USAGE, WORSE, Parser, add_results
from results.policy import PolicyError
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
    except (StoreError, PolicyError) as error:
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

    pair = Parser(add_help=False)
    pair.add_argument("base", metavar="BASE", help=RUN_HELP)
    pair.add_argument("head", metavar="HEAD", nargs="?", default="latest", help="likewise")
    pair.add_argument("--policy", type=Path, metavar="FILE", help="thresholds, in TOML")
    compare = commands.add_parser(
        "compare", parents=[shared, pair], help="what changed from one run to another"
    )
    compare.set_defaults(run=_compare)
    gate = commands.add_parser(
        "gate", parents=[shared, pair], help="the same, with an exit code that says how it went"
    )
    gate.add_argument(
        "--other-machine",
        action="store_true",
        help="decide although the runs come from different machines",
    )
    gate.add_argument(
        "--other-settings",
        action="store_true",
        help="decide although the runs were made with different settings: threads, say",
    )
    gate.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="write gate.md, gate.json and gate.svg"
    )
    gate.set_defaults(run=_gate)

    history = commands.add_parser(
        "history", parents=[shared], help="series over stored runs, and where they changed"
    )
    history.add_argument("--case", default="*", metavar="PATTERN", help="cases whose key fits")
    history.add_argument("--metric", action="append", default=[], metavar="NAME")
    history.add_argument("--all", action="store_true", help="series without a change as well")
    history.add_argument(
        "--branch", metavar="[REPOSITORY@]REVISION:FOLDER", help="runs in a git branch's folder"
    )
    history.add_argument("--format", default="table", choices=("table", "json"))
    history.add_argument(
        "--bisect",
        nargs="+",
        metavar="TARGET",
        help="with --case: what `--against` takes, oldest first. Runs gates to find the first with "
        "which the case is as slow as now",
    )
    history.set_defaults(run=_history)
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
    if tool := environment.get("tool"):
        _print(f"Measured by {tables.text(tool)}, as it says; nothing of it was judged here.")
    judged = tables.conformance(run)
    if judged.row_count:
        _print("", judged)
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


def _compare(options: argparse.Namespace) -> int:
    verdict, found = _verdict(options)
    for what, differences in (("machine", found.machines), ("setting", found.settings)):
        for difference in differences:
            print(f"warning: another {what}: {difference}", file=sys.stderr)
    _print_verdict(verdict)
    return FINE if verdict.decisions else NOTHING


def _gate(options: argparse.Namespace) -> int:
    from results import announce, atomic

    verdict, found = _verdict(options)
    refused = _refused(options, found)
    if refused:
        verdict = announce.Verdict((), verdict.base, verdict.head, refused, verdict.notes)
        print(f"results: {refused}", file=sys.stderr)
    else:
        _print_verdict(verdict)
    if options.output is not None:
        for name, text in announce.files(verdict).items():
            atomic.write(options.output / name, text)
    announce.tell_github(verdict, sys.stdout)
    return announce.exit_code(verdict)


def _refused(options: argparse.Namespace, found: Any) -> str:
    """Why two runs are not compared; empty where they are."""
    if found.machines and not options.other_machine:
        told = "; ".join(found.machines[:3])
        return (
            f"not decided, since the runs come from different machines: {told}. "
            "Measure both on one machine, or say --other-machine"
        )
    if found.settings and not options.other_settings:
        told = "; ".join(found.settings[:3])
        return (
            f"not decided, since the runs were made with different settings: {told}. "
            "Measure both with the same, or say --other-settings"
        )
    return ""


def _verdict(options: argparse.Namespace) -> tuple[Any, Any]:
    """What the two runs show, as a verdict and as a comparison."""
    from results import announce, compare, foreign, policy, tables

    rules = policy.read(options.policy)
    base, head = (foreign.open_run(options.results, name) for name in (options.base, options.head))
    found = compare.compare(base, head, rules)
    for note in found.notes:
        print(f"note: {tables.text(note, limit=400)}", file=sys.stderr)
    verdict = announce.Verdict(
        found.decisions, f"run {base.run_id}", f"run {head.run_id}", found.undecided, found.notes,
        found.ungated,
    )  # fmt: skip
    return verdict, found


def _history(options: argparse.Namespace) -> int:
    from fnmatch import fnmatchcase

    from results import announce, history, tables

    if options.bisect:
        return _bisect(options)
    with history.stored(options.results, options.branch) as runs:
        found = history.series(runs, metrics=options.metric or history.METRICS)
    found = [one for one in found if fnmatchcase(announce.label(one.case), options.case)]
    shown = [one for one in found if one.changes or options.all]
    if options.format == "json":
        print(history.to_json(shown))
    elif shown:
        _print(tables.history(shown))
    changed = sum(bool(one.changes) for one in found)
    print(f"{len(found)} series of {len(runs)} runs, {changed} with changes", file=sys.stderr)
    return FINE if found else NOTHING


def _bisect(options: argparse.Namespace) -> int:
    from results import history

    def regressed(target: str) -> bool:
        code = history.run_gate(target, options.case, options.results)
        told = {FINE: "as fast as now", WORSE: "slower now"}.get(code, "not decided")
        print(f"against {target}: {told}", flush=True)
        if code not in (FINE, WORSE):
            raise StoreError(
                f"the gate against {target} ended with {code}, so the step cannot be placed; "
                "what it printed is above"
            )
        return code == WORSE

    place = history.first_without(options.bisect, regressed)
    if place == 0:
        print("it is not slower than with the first of them: the step came in before")
        return NOTHING
    if place == len(options.bisect):
        print(f"it is slower than with all of them: the step came in after {options.bisect[-1]}")
        return FINE
    print(f"the step came in with {options.bisect[place]}, after {options.bisect[place - 1]}")
    return FINE


def _print_verdict(verdict: Any) -> None:
    from results import announce, tables

    changed = [found for found in verdict.decisions if found.verdict != "unchanged"]
    if changed:
        _print(tables.decisions(changed))
    _print(announce.headline(verdict))
    if verdict.undecided:
        _print(verdict.undecided)


def _read(options: argparse.Namespace) -> Run:
    """The run that was asked for; what could not be read of it is printed as warnings."""
    from results import foreign, tables

    run = foreign.open_run(options.results, options.name)

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
