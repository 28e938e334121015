"""Exit codes: one for each way to fail."""

from __future__ import annotations

from invoke.exceptions import Exit

from jetpare.base import errors


def kinds(base: type[errors.JetpareError]) -> list[type[errors.JetpareError]]:
    return [each for kind in base.__subclasses__() for each in (kind, *kinds(kind))]


def test_codes_are_unique_and_documented() -> None:
    codes = [kind.code for kind in kinds(errors.JetpareError)]
    assert len(codes) == len(set(codes))
    assert 0 not in codes
    assert 1 not in codes  # what an unexpected error exits with
    assert all(kind.__doc__ for kind in kinds(errors.JetpareError))


def test_a_message_keeps_its_lines_and_nothing_that_a_terminal_acts_on() -> None:
    error = errors.ToolError("an image said:\n\x1b[2J\x1b]0;title\x07\r\n\tgone\x9b1A \udc80 \u202e")
    assert str(error) == "an image said:\n\\x1b[2J\\x1b]0;title\\x07\n        gone\\x9b1A \\udc80 \\u202e"


def test_invoke_prints_the_message_and_exits_with_the_code() -> None:
    error = errors.ConfigError("what, where, what to do")
    assert isinstance(error, Exit)
    assert (error.message, error.code, str(error)) == ("what, where, what to do", 2, "what, where, what to do")
