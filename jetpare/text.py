"""Words that come from elsewhere, such as names in an image, for a terminal that acts on nothing in them."""

from __future__ import annotations


def plain(text: str) -> str:
    """*text* with all that a terminal or a table would not show as one line written as escapes."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "backslashreplace").decode() for char in text
    )


def plain_lines(text: str) -> str:
    """The same, keeping lines; tabs become spaces."""
    return "\n".join(plain(line) for line in text.expandtabs().splitlines())
