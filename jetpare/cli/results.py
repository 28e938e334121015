"""Write a result to stdout or to the file that a flag names."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from jetpare.base.errors import (
    ConfigError,
)
from jetpare.cli.session import Session, is_terminal


def write_file(output: str, text: str) -> None:
    """Write *text* to a file that a flag names; one that is there keeps its content where that fails."""
    from jetpare.base import files

    try:
        files.write_out(Path(output), text.encode("utf-8", errors="backslashreplace"))
    except OSError as error:
        raise ConfigError(f"{output}: cannot be written: {error.strerror}.") from None


def deliver(session: Session, text: str, output: str, what: str) -> None:
    """Write *text* to stdout, or to the file *output* and say so."""
    if not output:
        write_data(text)
        return
    write_file(output, text)
    session.say(f"{what} is in {output}.")


def check_folder(output: str) -> None:
    """Raise ConfigError where a file could not be written for want of its folder, before any work is done for it."""
    if output and not Path(output).parent.is_dir():
        raise ConfigError(f"{output}: cannot be written: there is no folder {Path(output).parent}.")
    if output and Path(output).is_dir():
        raise ConfigError(f"{output}: cannot be written: it is a folder.")


def to_json(content: object) -> str:
    """Return *content* as JSON in ASCII, so that names that are not UTF-8 survive, with a line feed at its end."""
    return json.dumps(content, indent=2) + "\n"


def write_data(text: str) -> None:
    """Write *text* to stdout as it is: what another program reads (JSON, CSV, SARIF, TOML, a log) has no colour."""
    is_terminal(sys.stdout)
    sys.stdout.write(text)
