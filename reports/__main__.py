"""`python -m reports RUN... -o DIR`: a page from stored runs, without any framework.

Exit codes: 0 fine, 2 usage error.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from results import store
from results.command_line import FINE, RUN_HELP, USAGE, Parser, add_results
from results.store import StoreError


def main(arguments: Sequence[str] | None = None) -> int:
    """Builds the page, prints its path, and returns the exit code."""
    options = _parser().parse_args(arguments)
    missing = [n for n in ("jinja2", "pandas", "plotly") if importlib.util.find_spec(n) is None]
    if missing:
        names = " ".join(missing)
        print(f"reports: not installed: {names}. Try `pip install {names}`.", file=sys.stderr)
        return USAGE
    from reports.page import build  # needs what was just looked for

    try:
        runs = [store.find(options.results, name) for name in options.runs]
        print(build(runs, options.output, title=options.title))
        return FINE
    except StoreError as error:
        print(f"reports: {error}", file=sys.stderr)
        return USAGE


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m reports", description="Builds a page from stored runs.")
    parser.add_argument("runs", metavar="RUN", nargs="+", help=RUN_HELP)
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help="folder of index.html"
    )
    parser.add_argument("--title", help="heading of the page")
    add_results(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
