"""Decode BuildKit's stream of JSON events."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone

Event = Mapping[str, object]


# --- decoding


class EventDecoder:
    """Turns chunks of the stream into events, in time linear in their size.

    Old versions of buildx print an object over many lines, new ones on a line each: objects are found by their braces.
    Text between them (``ERROR: …``, warnings, the excerpt of a Dockerfile) is kept in ``text``, a line an element.
    """

    def __init__(self) -> None:
        self.text: list[str] = []
        self._partial: list[bytes] = []  # the pieces of a line that has not ended
        self._object: list[bytes] = []  # the lines of an object that has not ended
        self._depth = 0

    def feed(self, chunk: bytes) -> list[Event]:
        """Return the events that *chunk* completes."""
        head, newline, rest = chunk.rpartition(b"\n")
        if not newline:
            self._partial.append(chunk)
            return []
        lines = b"".join((*self._partial, head)).split(b"\n")
        self._partial = [rest] if rest else []
        events: list[Event] = []
        for line in lines:
            self._line(line, events)
        return events

    def close(self) -> list[Event]:
        """Return the events that the end of the stream completes; an object that was cut off becomes text."""
        events: list[Event] = []
        if self._partial:
            self._line(b"".join(self._partial), events)
            self._partial = []
        self._give_up()
        return events

    def _line(self, line: bytes, events: list[Event]) -> None:
        if self._depth and line[:1].isalpha():
            self._give_up()  # no line of an object begins with a letter: it was cut off, and this tells why
        if not self._depth and not line.startswith(b"{"):
            self._say(line)
            return
        self._object.append(line)
        # A JSON string cannot hold a line break, so the strings of a line are whole.
        bare = _JSON_STRING.sub(b"", line)
        self._depth += bare.count(b"{") - bare.count(b"}")
        if self._depth <= 0:
            whole = b"\n".join(self._object).decode(errors="replace")
            self._object, self._depth = [], 0
            self._objects(whole, events)

    def _objects(self, text: str, events: list[Event]) -> None:
        position = 0
        while position < len(text):
            try:
                value, position = _JSON.raw_decode(text, position)
            except ValueError:
                self._say(text[position:].encode())
                return
            if isinstance(value, dict):
                events.append(value)
            while position < len(text) and text[position].isspace():
                position += 1

    def _give_up(self) -> None:
        for line in self._object:
            self._say(line)
        self._object, self._depth = [], 0

    def _say(self, line: bytes) -> None:
        self.text.extend(clean(part) for part in line.decode(errors="replace").split("\n") if part.strip())


_JSON = json.JSONDecoder()
_JSON_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')

_TIME = re.compile(r"(\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d)(?:\.(\d+))?([Zz]|[+-]\d\d:\d\d)")
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_SECOND = timedelta(seconds=1)


def parse_time(text: object) -> float | None:
    """RFC 3339 as epoch seconds; None for Go's zero time (year 1) and for what is no time.

    Written out because datetime.fromisoformat takes neither nine digits nor 'Z' before Python 3.11. A float holds
    today's times to a quarter of a microsecond.
    """
    found = _TIME.fullmatch(text) if isinstance(text, str) else None
    if found is None or found[1].startswith("0001-"):
        return None
    try:
        whole = datetime.fromisoformat(found[1].upper()).replace(tzinfo=timezone.utc)
    except ValueError:
        return None
    seconds = (whole - _EPOCH) // _SECOND
    if found[3] not in "Zz":
        hours, minutes = found[3][1:].split(":")
        seconds -= (int(hours) * 3600 + int(minutes) * 60) * (-1 if found[3][0] == "-" else 1)
    return seconds + float(f"0.{found[2] or 0}")


_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[PX^_][^\x1b]*(?:\x1b\\)?|[ -/]*[0-~])")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def clean(line: str) -> str:
    """*line* as a terminal would leave it: what follows the last carriage return, without escapes and control codes."""
    shown = next((part for part in reversed(line.split("\r")) if part), "")
    return _CONTROL.sub("", _ANSI.sub("", shown))
