"""Write a comparison as text, JSON, Markdown or HTML, chosen by name or by a file's suffix."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import PurePath
from types import MappingProxyType

from jetpare.base.errors import ConfigError
from jetpare.base.text import suggest
from jetpare.compare.gather import Gathered

TEXT, MARKDOWN = "text", "md"


def text(found: Gathered) -> str:
    """Return the tables of the terminal, without color."""
    from jetpare.views import terminal
    from jetpare.views.comparison_text import View

    return terminal.text(View(found.comparison))


def as_json(found: Gathered) -> str:
    """Return the documented JSON, in ASCII, so that names that are not UTF-8 survive."""
    return json.dumps(found.comparison.as_dict(), indent=2) + "\n"


def markdown(found: Gathered) -> str:
    """Return Markdown for a pull request."""
    from jetpare.views import markdown

    return markdown.render(found.comparison)


def html(found: Gathered) -> str:
    """Return one self-contained page."""
    from jetpare.views import html

    return html.render(found.comparison, found.inventories, owners=found.owners)


FORMATS: Mapping[str, Callable[[Gathered], str]] = MappingProxyType(
    {TEXT: text, "json": as_json, MARKDOWN: markdown, "html": html}
)
SUFFIXES: Mapping[str, str] = MappingProxyType(
    {".txt": TEXT, ".json": "json", ".md": MARKDOWN, ".markdown": MARKDOWN, ".html": "html", ".htm": "html"}
)


def pick(form: str, output: str) -> str:
    """Return the form that was asked for, else that of the output's suffix, else text. Raises ConfigError."""
    chosen = form or SUFFIXES.get(PurePath(output).suffix.lower(), TEXT)
    if chosen not in FORMATS:
        raise ConfigError(
            f"--format {form} is not a valid form{suggest(form, FORMATS)}; expected {', '.join(FORMATS)}."
        )
    return chosen
