"""What the commands of results and reports share: exit codes, the parser, how a run is named."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NoReturn

#: Exit codes, never mixed up: fine, regressed or divergent, usage error, nothing to decide.
FINE, WORSE, USAGE, NOTHING = 0, 1, 2, 3

DEFAULT_ROOT = Path("results") / "runs"
RUN_HELP = (
    "a run: its folder, its records, its id, a unique beginning of the id, or `latest`; or JSON of "
    "pytest-benchmark, pyperf, asv or Google Benchmark, a file or a folder of such"
)


class Parser(argparse.ArgumentParser):
    """A parser whose usage errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"{self.prog}: {message} (see {self.prog} --help)\n")


def add_results(parser: argparse.ArgumentParser) -> None:
    """Adds `--results DIR`."""
    parser.add_argument(
        "--results",
        type=Path,
        default=DEFAULT_ROOT,
        metavar="DIR",
        help="where the runs are stored (default: %(default)s)",
    )
