"""`python -m numerics calibrate`: the bound on the ratio, from planted faults and honest runs.

Exit codes: 0 fine, 1 the gap is too narrow to judge, 2 usage error, 3 there is nothing to calibrate
with.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from numerics import calibrate

USAGE, NOTHING = 2, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m numerics", description="Derives the bound that float32 is judged by."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("calibrate", help="the bound, from recorded ratios")
    command.add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="FILE",
        help="`self_test.csv` of a run; its ratios replace those that are kept",
    )
    command.add_argument(
        "--records",
        type=Path,
        metavar="FILE",
        help="`records.jsonl` of a run: the largest ratios that its honest programs came to count",
    )
    options = parser.parse_args(arguments)
    try:
        return calibrate.main(options.source, records=options.records)
    except calibrate.CalibrationError as error:
        print(f"numerics: {error}", file=sys.stderr)
        return NOTHING
    except (OSError, ValueError) as error:
        print(f"numerics: {error}", file=sys.stderr)
        return USAGE


if __name__ == "__main__":
    sys.exit(main())
