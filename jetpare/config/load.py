"""Read build.toml and turn every fault in it into one message."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli
from pydantic import BaseModel, ValidationError

from jetpare.base.errors import ConfigError
from jetpare.base.text import suggest
from jetpare.config.crossrefs import cross_faults
from jetpare.config.schema import Config
from jetpare.config.table_names import key_text, table_name

# --- reading


def load_config(path: Path) -> Config:
    """Read and validate *path*.

    Raises ConfigError with a line for each fault: of the tables and their values, or, where these are valid, of what
    they say about each other and about files.
    """
    try:
        raw = tomli.loads(path.read_bytes().decode())
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: there is no such file. Run the command in the project's folder, or set JETPARE_ROOT to it."
        ) from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path.name}: is not UTF-8 (byte {error.start}); TOML must be.") from None
    except tomli.TOMLDecodeError as error:
        raise ConfigError(
            f"{path.name}: line {error.lineno}, column {error.colno}: not valid TOML: {error.msg}."
        ) from None
    except (RecursionError, ValueError) as error:  # brackets in a thousand brackets, a number of five thousand digits
        raise ConfigError(f"{path.name}: is not valid TOML: {error}.") from None
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        faults = [_fault(path.name, details) for details in error.errors()]
    else:
        faults = [f"{path.name}: {fault}" for fault in cross_faults(config, path.parent)]
    if faults:
        raise ConfigError("\n".join(dict.fromkeys(faults)))
    return config


def _fault(file: str, details: Mapping[str, Any]) -> str:
    location = list(details["loc"])
    if details["type"] == "extra_forbidden":
        *tables, key = location
        known = _known_keys(tables)
        kind = "table" if isinstance(details["input"], dict) else "key"
        return f"{file}: {table_name(tables)}: unknown {kind} {key!r}{suggest(str(key), known)}"
    if location[-1] == "[key]" and len(location) > 1:  # pydantic's mark for: the key itself is wrong
        location.pop()
    *tables, key = location
    item = ""
    if isinstance(key, int) and tables:  # an item of an array
        item, key = f" item {key + 1}", tables.pop()
    if details["type"] == "missing":
        return f"{file}: {table_name(tables)}: '{key}' is missing"
    return f"{file}: {table_name(tables)} {key_text(key)}{item}: {_complaint(details)}"


def _complaint(details: Mapping[str, Any]) -> str:
    wanted = {
        "string_type": "a string", "int_type": "a whole number", "bool_type": "true or false", "float_type": "a number",
        "float_parsing": "a number", "tuple_type": "an array", "dict_type": "a table", "model_type": "a table",
        "path_type": "a path, as a string", "date_type": "a date without quotes, such as 2025-01-31",
    }.get(details["type"])  # fmt: skip
    if wanted:
        return f"{details['input']!r} has the wrong type; expected {wanted}"
    if details["type"] == "literal_error":
        known = details["ctx"]["expected"]
        return f"{details['input']!r} is none of {known}{suggest(str(details['input']), re.findall(r'[a-z]+', known))}"
    if details["type"] in {"too_short", "string_too_short"}:
        return "must not be empty"
    limits = {
        "greater_than": ("more than", "gt"), "greater_than_equal": ("at least", "ge"),
        "less_than": ("less than", "lt"), "less_than_equal": ("at most", "le"),
    }  # fmt: skip
    if details["type"] in limits:
        words, limit = limits[details["type"]]
        return f"{details['input']!r} is not valid; expected {words} {details['ctx'][limit]:g}"
    if details["type"] == "finite_number":
        return f"{details['input']!r} is not valid; expected a finite number"
    return str(details["msg"]).removeprefix("Value error, ")


def _known_keys(tables: list[str | int]) -> list[str]:
    """Return the keys that the table at this place may have, found by walking the models."""
    place: Any = Config
    for name in tables:
        field = place.model_fields.get(str(name)) if isinstance(place, type) and issubclass(place, BaseModel) else None
        if field is not None:
            place = field.annotation
        elif hasattr(place, "__args__"):
            place = _item(place)
        if hasattr(place, "__args__") and name == tables[-1]:
            place = _item(place)
    return list(place.model_fields) if isinstance(place, type) and issubclass(place, BaseModel) else []


def _item(kind: Any) -> Any:  # noqa: ANN401 - a type
    """Return the type that a dict[Name, Model] or a tuple[Model, ...] holds."""
    return next(each for each in reversed(kind.__args__) if each is not Ellipsis)
