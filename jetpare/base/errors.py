"""Every way to fail, with its exit code.

A message says what happened, where, and what to do. Invoke prints it on stderr and exits with the code, because the
base class is ``invoke.Exit``; nothing else is needed for a failure to reach the user as one clear message.
"""

from __future__ import annotations

from invoke.exceptions import Exit

from jetpare.base.text import plain_lines


class JetpareError(Exit):
    """Base of all failures that a user can cause or meet; ``code`` is unique for each class."""

    code = 1

    def __init__(self, message: str) -> None:
        super().__init__(message=plain_lines(message), code=type(self).code)  # it may quote an image's own words

    def __str__(self) -> str:
        return self.message or ""


class ConfigError(JetpareError):
    """build.toml, or a flag that names something in it, is wrong. One line a fault."""

    code = 2


class EngineError(JetpareError):
    """No Docker engine answers, or it is too old, or it refused."""

    code = 3


class ToolError(JetpareError):
    """A program that is needed (docker, buildx, mmdebstrap ...) is missing or failed."""

    code = 4


class BuildError(JetpareError):
    """A stage failed."""

    code = 5


class CheckError(JetpareError):
    """An image was built, but does not pass its checks, so it was not tagged."""

    code = 6


class DoctorError(JetpareError):
    """The doctor found something that will make a build fail."""

    code = 7


class BusyError(JetpareError):
    """Another run holds this project's lock."""

    code = 8


class RecordError(JetpareError):
    """A record, a log or an image that a command asks for is not there."""

    code = 9


class DownloadError(JetpareError):
    """A source could not be fetched, or is not what its checksum says."""

    code = 10


class SpaceError(JetpareError):
    """Too little free disk for what was asked."""

    code = 11


class BudgetError(JetpareError):
    """An image is larger, or a stage took longer, than its budget in build.toml allows."""

    code = 12


class HostError(JetpareError):
    """The machine refused: a file cannot be read or written, or the disk is full."""

    code = 13


class PowerError(JetpareError):
    """The power mode or the clocks cannot be set, or could not be put back."""

    code = 14


class StrictPowerError(JetpareError):
    """[power] strict: a figure was measured under another mode, or at lower clocks, than what was asked for."""

    code = 15


class AuditError(JetpareError):
    """The audit found something of the severity for which [audit] fail_on makes it fail."""

    code = 16


class VerifyError(JetpareError):
    """An image was run, and something in it does not work."""

    code = 17


class UnknownNameError(JetpareError):
    """`explain` was asked for something that no image has."""

    code = 18


class Interrupted(JetpareError):  # noqa: N818 - it is no error
    """Ctrl-C or SIGTERM; 130 is what a shell reports for it."""

    code = 130
