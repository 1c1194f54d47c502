"""`python -m reports RUN... -o DIR`: a site from stored runs, without any framework.

Exit codes: 0 fine, 2 usage error.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from reports import build, build_page
from results import foreign, store
from results.command_line import FINE, RUN_HELP, USAGE, Parser, add_results
from results.store import StoreError


def main(arguments: Sequence[str] | None = None) -> int:
    """Builds the site, prints the path of its first page, and returns the exit code."""
    options = _parser().parse_args(arguments)
    missing = [n for n in ("jinja2", "pandas", "plotly") if importlib.util.find_spec(n) is None]
    if missing:
        names = " ".join(missing)
        print(f"reports: not installed: {names}. Try `pip install {names}`.", file=sys.stderr)
        return USAGE
    try:
        runs = [run for name in options.runs for run in _found(options.results, name)]
        if options.one_page:
            print(build_page(runs, options.output, title=options.title))
        else:
            url = options.base_url or ""
            print(build(runs, options.output, title=options.title, base_url=url))
        return FINE
    except StoreError as error:
        print(f"reports: {error}", file=sys.stderr)
        return USAGE


def _found(results: Path, name: str) -> list[Path]:
    """The run of that name, all that lie in a folder of runs, or what another tool wrote."""
    folder = Path(name)
    if foreign.is_foreign(folder):
        return [folder]
    inside = store.run_folders(folder) if folder.is_dir() else []
    if inside and not store.holds_run(folder):
        return inside
    return [store.find(results, name)]


def _url(text: str) -> str:
    if not text.startswith(("https://", "http://")) or any(
        c.isspace() or c in "<>\"'&" for c in text
    ):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no address of a site, such as https://example.org/assay/"
        )
    return text


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m reports", description="Builds a site from stored runs.")
    parser.add_argument("runs", metavar="RUN", nargs="+", help=f"{RUN_HELP}; or a folder of runs")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help="folder of index.html"
    )
    parser.add_argument("--title", help="heading of the first page")
    parser.add_argument(
        "--base-url",
        type=_url,
        metavar="URL",
        help="where the site will lie: pages name their address, and there is a sitemap",
    )
    parser.add_argument(
        "--one-page", action="store_true", help="everything in one self-contained file instead"
    )
    add_results(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
