"""What a person sees while cases run: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Collection
from typing import IO

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from results.records import Case, Outcome

STYLES = {"ok": "green", "unsupported": "dim", "interrupted": "yellow"}


class Display:
    """A `harness.trial.Listener` that writes to `stream`. Cases of the suites in `quiet`, which
    are many and short, have a line only where something is wrong."""

    def __init__(self, stream: IO[str], total: int, *, quiet: Collection[str] = ()) -> None:
        self._quiet = quiet
        self._console = Console(file=stream, highlight=False, soft_wrap=True)
        self._total = total
        self._done = 0
        self._progress: Progress | None = None
        if self._console.is_terminal:
            self._progress = Progress(
                BarColumn(bar_width=20),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                TextColumn("{task.description}"),
                console=self._console,
                transient=True,
            )
            self._task = self._progress.add_task("", total=total)

    def phase(self, case: Case, phase: str) -> None:
        if self._progress is not None:
            self._progress.start()
            self._progress.update(self._task, description=f"{escape(case.key)} · {escape(phase)}")

    def ended(self, outcome: Outcome, note: str) -> None:
        self._done += 1
        self._total = max(self._total, self._done)  # how many points a curve has shows as it goes
        text = note if outcome.status == "ok" else outcome.reason.replace("\n", "; ")
        style = STYLES.get(outcome.status, "bold red")
        width = len(str(self._total))
        if outcome.case.suite in self._quiet and outcome.status in ("ok", "unsupported"):
            self._advance()
            return
        self._console.print(
            f"[dim]{self._done:{width}}/{self._total}[/] "
            f"[{style}]{outcome.status:<11}[/] {escape(outcome.case.key)} "
            f"[dim]{outcome.seconds:.1f} s[/] {escape(text)}"
        )
        self._advance()

    def _advance(self) -> None:
        if self._progress is not None:
            self._progress.update(self._task, completed=self._done, total=self._total)

    def close(self) -> None:
        """Removes the live line."""
        if self._progress is not None:
            self._progress.stop()
