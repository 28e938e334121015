"""Make an Invoke task of a function, so that every failure is a message and an exit code."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from invoke.context import Context
from invoke.tasks import Task, task

from jetpare.base.errors import ConfigError, HostError, Interrupted
from jetpare.base.process import signals_as_interrupt


def command(**options: object) -> Callable[[Callable[..., None]], Task[Any]]:
    """Return a decorator that makes an Invoke task with *options*.

    The task turns an OSError into a HostError, and Ctrl-C or SIGTERM into Interrupted.
    """

    def make(function: Callable[..., None]) -> Task[Any]:
        @functools.wraps(function)
        def guarded(context: Context, *args: object, **flags: object) -> None:
            refuse_dry(context)
            try:
                with signals_as_interrupt():
                    function(context, *args, **flags)
            except KeyboardInterrupt:
                raise Interrupted("Interrupted.") from None
            except OSError as error:
                raise HostError(f"{error.filename or function.__name__}: {error.strerror or error}.") from error

        made: Task[Any] = task(auto_shortflags=False, **options)(guarded)
        return made

    return make


def number(flag: str, text: str) -> int:
    """Return the whole number that *flag* was given. Raises ConfigError; Invoke's own check ends in a traceback."""
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"{flag} {text} is not a number; expected a whole number, such as {flag} 3.") from None


def refuse_dry(context: Context) -> None:
    """Raise ConfigError under `invoke --dry`, which holds back only commands that Invoke itself would run."""
    if context.config.run.dry:
        raise ConfigError(
            "--dry: Invoke's own flag does not hold back what jetpare does, so nothing was done. To see what a build "
            "would do, run `invoke plan`; to see its definition and command, run `invoke build-all --dry-run`."
        )
