"""Bytes and durations in words."""

from __future__ import annotations

import pytest

from jetpare.base.units import clock_face, common_unit, duration, of_about, size_text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "not measured"),
        (0, "0 B"),
        (1, "1 B"),
        (412, "412 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (13_400, "13.4 kB"),
        (99_949, "99.9 kB"),
        (99_950, "100 kB"),
        (999_499, "999 kB"),
        (999_500, "1.00 MB"),
        (9_994_999, "9.99 MB"),
        (9_995_001, "10.0 MB"),
        (74_900_000, "74.9 MB"),
        (840_000_000, "840 MB"),
        (999_600_000, "1.00 GB"),
        (5_410_000_000, "5.41 GB"),
        (25_000_000_000, "25.0 GB"),
        (1_234_000_000_000, "1.23 TB"),
        (5_000_000_000_000_000, "5000 TB"),
        (-840_000_000, "-840 MB"),
        (1234.5, "1.23 kB"),
    ],
)
def test_bytes_have_three_significant_figures(count: float | None, text: str) -> None:
    assert size_text(count) == text


def test_a_column_may_have_one_unit() -> None:
    column = [5_410_000_000, 840_000_000, None, 74_900_000, 0]
    unit = common_unit(column)
    assert [size_text(each, unit=unit) for each in column] == [
        "5.41 GB",
        "0.84 GB",
        "not measured",
        "0.07 GB",
        "0.00 GB",
    ]
    assert common_unit([None]) == common_unit([]) == "B"
    assert size_text(412, unit=common_unit([412])) == "412 B"


@pytest.mark.parametrize(
    ("seconds", "words", "face"),
    [(4.24, "4.2 s", "4.2 s"), (59.94, "59.9 s", "59.9 s"), (59.96, "1 min 00 s", "1:00"), (3725, "62 min 05 s", "62:05")],
)  # fmt: skip
def test_durations(seconds: float, words: str, face: str) -> None:
    assert duration(seconds) == words
    assert clock_face(seconds) == face


def test_of_about() -> None:
    assert of_about(clock_face, 72, 100) == "1:12 of about 1:40"
    assert of_about(duration, 72, None) == "1 min 12 s"
