"""Get a Debian base image: pull it if a registry answers, else make it with mmdebstrap."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from jetpare.base import process
from jetpare.base.errors import EngineError, ToolError
from jetpare.base.process import command_line
from jetpare.engine import image_store
from jetpare.engine.apt import apt_environment, require_mmdebstrap
from jetpare.engine.model import Engine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


LABEL = "io.jetpare.base"

# The doctor checks whether programs of another architecture run; mmdebstrap's own check needs one more tool.
MMDEBSTRAP = ("unshare", "--mount", "mmdebstrap", "--variant=apt", "--include=ca-certificates", "--skip=check/qemu")
# The files that the official slim images leave out, and their apt settings.
SLIM = (
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-include=/usr/share/doc/*/copyright",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/info/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--dpkgopt=path-include=/usr/share/locale/locale.alias",
    '--aptopt=APT::Install-Recommends "false"',
    '--aptopt=APT::Install-Suggests "false"',
    '--aptopt=Acquire::Languages "none"',
    # Written last: if it were set earlier, apt would delete the packages before mmdebstrap unpacks them.
    """--customize-hook=echo 'APT::Keep-Downloaded-Packages "false";' > "$1"/etc/apt/apt.conf.d/90no-debs""",
)


@dataclass(frozen=True, kw_only=True)
class Base:
    """A base image in the engine, and where it came from."""

    id: str
    how: Literal["present", "pulled", "bootstrapped"]


def bootstrap_base(
    engine: Engine,
    *,
    name: str,
    suite: str,
    arch: str,
    environ: Mapping[str, str],
    say: Callable[[str], None] = lambda _line: None,
    echo: Callable[[str], None] = lambda _line: None,
) -> Base:
    """Return the image *name* in *engine*, adding Debian *suite* for *arch* (Docker's word) under it if it is missing.

    Takes what is there, else pulls debian:SUITE-slim if a registry answers within 15 s, else makes one on this host
    with mmdebstrap, which needs Linux, apt and root. *echo* gets the command line of each program that takes
    long. Raises ToolError with the reason when that fails too.
    """
    present = image_store.inspect_image(engine, name)
    if present is not None:
        return Base(id=present.id, how="present")
    official = f"debian:{suite}-slim"
    trouble = image_store.registry_trouble(engine, official)
    if not trouble:
        say(f"Pulling {official} ...")
        _run([engine.docker, "pull", "--quiet", "--platform", f"linux/{arch}", official], engine, echo=echo)
        image_store.tag_image(engine, official, name)
        return _found(engine, name, "pulled")
    say(f"{official} cannot be pulled: {trouble}.")
    env = apt_environment(environ)
    if not shutil.which("apt-get", path=env["PATH"]):
        raise ToolError(
            f"{official} cannot be pulled ({trouble}), and without apt it cannot be made here. On a machine that can "
            f"pull: `docker pull --platform linux/{arch} {official} && docker tag {official} {name} && "
            f"docker save --output base.tar {name}`. Then here: `docker load --input base.tar`."
        )
    say(f"Making it for {arch} with mmdebstrap (half a minute; some minutes where its programs are emulated) ...")
    require_mmdebstrap(env, say)
    _make(engine, name=name, suite=suite, arch=arch, env=env, echo=echo)
    return _found(engine, name, "bootstrapped")


def _make(
    engine: Engine, *, name: str, suite: str, arch: str, env: Mapping[str, str], echo: Callable[[str], None]
) -> None:
    """Make a Debian system with mmdebstrap, and import it into *engine* as the image *name*."""
    with tempfile.TemporaryDirectory(prefix="jetpare-") as folder:
        archive = Path(folder) / "base.tar"
        argv = [*MMDEBSTRAP, f"--architectures={debian_arch(arch)}", *SLIM, suite, str(archive)]
        echo(command_line(argv))
        process.run(argv, env=env)
        change = ["--change", f"LABEL {LABEL}=mmdebstrap-{suite}", "--change", 'CMD ["bash"]']
        _run([engine.docker, "import", "--platform", f"linux/{arch}", *change, str(archive), name], engine, echo=echo)


def _run(argv: list[str], engine: Engine, *, echo: Callable[[str], None]) -> None:
    """Run the Docker CLI for a command that takes long."""
    echo(command_line(argv, engine.overrides))
    process.run(argv, env=engine.env)


def debian_arch(arch: str) -> str:
    """Return Debian's name for the architecture that Docker calls *arch*."""
    return {"arm": "armhf", "386": "i386", "ppc64le": "ppc64el"}.get(arch, arch)


def _found(engine: Engine, name: str, how: Literal["pulled", "bootstrapped"]) -> Base:
    image = image_store.inspect_image(engine, name)
    if image is None:
        raise EngineError(f"{name} was {how}, but the engine at {engine.host} does not have it. Run the command again.")
    return Base(id=image.id, how=how)
