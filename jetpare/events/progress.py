"""What a run tells whoever watches it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from jetpare.events.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from types import TracebackType

WORTH_SECONDS = 1.0  # an estimate of less is not shown


@dataclass(frozen=True, kw_only=True)
class Usual:
    """How long each label took in the runs that compare with this one, in seconds, where there is a base for that."""

    seconds: Mapping[str, float] = field(default_factory=dict)
    in_turn: bool = True  # one after another, so that they add up

    def of(self, label: str) -> float | None:
        """What is worth telling about *label*: what takes no time needs no estimate."""
        found = self.seconds.get(label)
        return found if found is not None and found >= WORTH_SECONDS else None

    def left(self, waiting: Iterable[str], running: Mapping[str, float]) -> float | None:
        """Seconds until all has ended, *running* being what runs now and for how long; None without a base for it.

        What takes longer than usual ends nobody knows when.
        """
        rest = [*((label, 0.0) for label in waiting), *running.items()]
        known = [self.seconds[label] - elapsed for label, elapsed in rest if label in self.seconds]
        if not self.in_turn or len(known) < len(rest) or min(known, default=0.0) < 0:
            return None
        total = sum(known)
        return total if total >= WORTH_SECONDS else None


NOTHING_KNOWN = Usual()


class Progress(Protocol):
    """What the pipeline tells while it works. Labels are those of the plan: 'cuda/gdal'."""

    def __enter__(self) -> object: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def plan(self, rows: Sequence[str], usual: Usual = NOTHING_KNOWN) -> None:
        """All labels, in order, before anything starts."""

    def begin(self, label: str) -> None:
        """*label* starts, or the call that makes it."""

    def update(self, label: str, recorder: Recorder) -> None:
        """*recorder* may have news of *label*. Called after each batch of events; labels may share a recorder."""

    def transfer(self, label: str, done: int, total: int | None) -> None:
        """*done* of *total* bytes of *label*'s own download have come."""

    def finish(self, label: str, status: str, detail: str) -> None:
        """*label* has ended as *status*: ok, cached, failed, skipped, interrupted."""

    def note(self, text: str) -> None:
        """Something that the user should read once."""

    def echo(self, line: str) -> None:
        """Show *line* (see `process.command_line`) as it is: the program that starts now."""
