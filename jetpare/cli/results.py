"""Write a result to stdout or to the file that a flag names."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from jetpare.base.errors import ConfigError
from jetpare.cli.session import Session, is_terminal


def write_file(output: str, text: str) -> None:
    """Write *text* to the file that a flag names; an existing file keeps its content if that fails."""
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
    """Raise ConfigError if the file *output* has no folder or is one, before any work is done for it."""
    folder = Path(output).parent
    if output and not folder.is_dir():
        raise ConfigError(f"{output}: cannot be written: there is no folder {folder}. Run `mkdir -p {folder}` first.")
    if output and Path(output).is_dir():
        raise ConfigError(f"{output}: cannot be written: it is a folder. Name a file.")


def to_json(content: object) -> str:
    """Return *content* as JSON with a line feed at its end; in ASCII, so that names that are not UTF-8 survive."""
    return json.dumps(content, indent=2) + "\n"


def write_data(text: str) -> None:
    """Write *text* (JSON, CSV, SARIF, TOML, a log) to stdout as it is, without color: other programs read it."""
    is_terminal(sys.stdout)
    sys.stdout.write(text)


def one_form(flags: Mapping[str, bool]) -> str:
    """Return the name of the flag that was given, '' if none was. Raises ConfigError if more than one was."""
    given = [name for name, wanted in flags.items() if wanted]
    if len(given) > 1:
        raise ConfigError(f"--{' and --'.join(given)} exclude each other: choose one.")
    return given[0] if given else ""
