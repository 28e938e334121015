"""Show who needs whom in one image: one graph, over which `explain`, the audit and the prune plan are queries.

A worked example. A program of the package tool was linked with the library of another package, and with one that lies
where no search goes:

    >>> from jetpare.image.inventory import Elf, File, Inventory, Package, Settings
    >>> from jetpare.image.linkage import resolve
    >>> paths = ("/opt/old/libold.so.2", "/usr/bin/tool", "/usr/lib64/libz.so.1")
    >>> folders = ("/", "/opt", "/opt/old", "/usr", "/usr/bin", "/usr/lib64")
    >>> image = Inventory(
    ...     image_id="sha256:0",
    ...     platform="linux/amd64",
    ...     how="stream",
    ...     settings=Settings(),
    ...     layers=(),
    ...     files=(*(File(path, "dir") for path in folders), *(File(path, "file", 9000) for path in paths)),
    ...     elfs=(
    ...         Elf("/opt/old/libold.so.2", "dyn", "x86_64", 64, soname="libold.so.2"),
    ...         Elf("/usr/bin/tool", "exec", "x86_64", 64, needed=("libz.so.1", "libold.so.2")),
    ...         Elf("/usr/lib64/libz.so.1", "dyn", "x86_64", 64, soname="libz.so.1"),
    ...     ),
    ...     packages=(
    ...         Package("tool", "1", "amd64", depends=("zlib1g (>= 1.2)",), files=("/usr/bin/tool",)),
    ...         Package("zlib1g", "1", "amd64", files=("/usr/lib64/libz.so.1",)),
    ...     ),
    ... )
    >>> for use in uses(image, resolve(image)):
    ...     print(f"{use.user} {use.how} {use.used} ({use.evidence})")
    /usr/bin/tool links with /usr/lib64/libz.so.1 (libz.so.1)
    /usr/bin/tool cannot find /opt/old/libold.so.2 (libold.so.2)
    debian:tool depends on debian:zlib1g (zlib1g (>= 1.2))

A node is a file, by its real path; a package of the distribution, 'debian:NAME'; or a Python distribution,
'python:NAME' (`attribution.package_keys` and `distribution_keys` make the keys). What a node belongs to is for the
query to say: `explain` puts files together by `attribution`, A7 by its units. So both find a user, or none, for the
same things: a library that something names is not 'unused', whether the loader finds it or not.
"""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from packaging.utils import canonicalize_name

from jetpare.config.schema import Config
from jetpare.config.values import LABEL_PROJECT
from jetpare.image.attribution import Attribution, Component, distribution_keys, package_keys, packaged
from jetpare.image.host_libraries import HOST_LIBRARIES
from jetpare.image.inventory import Inventory, Package
from jetpare.image.layers import Listing
from jetpare.image.linkage import Linkage, libraries, required, resolve

LINKS, DEPENDS, REQUIRES, RUNS = "links with", "depends on", "requires", "runs with"
OPENS = "may open"  # its read-only strings name it
NAMES = "names"  # of a file that the image's loader has nothing to do with, such as one for another processor
MISSES = "cannot find"  # it links with that name, and no search path reaches the file
HOW = (LINKS, DEPENDS, REQUIRES, RUNS, OPENS, NAMES, MISSES)  # from what cannot do without to what may


@dataclass(frozen=True, kw_only=True, slots=True)
class Use:
    """An edge: the node *user* needs the node *used*.

    ``how``: one of `HOW`. ``evidence``: as the user has it: a soname, a relation of packages, a requirement, a #! line.
    """

    user: str
    how: str
    evidence: str
    used: str


def uses(inventory: Inventory, linkage: Linkage) -> tuple[Use, ...]:
    """Return every use in one image, whose *linkage* is `linkage.resolve`'s; nothing uses itself."""
    found = (
        *_linked(inventory, linkage),
        *_named(inventory, linkage),
        *_interpreted(inventory),
        *_depends(inventory),
        *_requires(inventory),
    )
    return tuple(use for use in found if use.user != use.used)


def _linked(inventory: Inventory, linkage: Linkage) -> Iterator[Use]:
    """Yield the libraries, and interpreters, that ELF files name, as the image's loader finds them."""
    for edge in linkage.edges:
        if edge.path:
            runs = edge.name == inventory.elf_by_path[edge.user].interpreter
            yield Use(user=edge.user, how=RUNS if runs else LINKS, evidence=edge.name, used=edge.path)
        for path in edge.elsewhere:
            yield Use(user=edge.user, how=MISSES, evidence=edge.name, used=path)
    for each in linkage.dlopens:
        for path in each.elsewhere or ((each.path,) if each.path else ()):
            yield Use(user=each.user, how=OPENS, evidence=each.name, used=path)


def _named(inventory: Inventory, linkage: Linkage) -> Iterator[Use]:
    """Yield what the files need that the loader skips: by name alone, among the libraries for the same machine."""
    elfs = inventory.elf_by_path
    by_name = libraries(inventory) if linkage.skipped else {}
    for user in (elfs[path] for path in linkage.skipped):
        for name in (*user.needed, *user.strings):
            for path in by_name.get(posixpath.basename(name), ()):
                if (elfs[path].machine, elfs[path].bits) == (user.machine, user.bits):
                    yield Use(user=user.path, how=NAMES, evidence=name, used=path)


def _interpreted(inventory: Inventory) -> Iterator[Use]:
    for script, line in inventory.interpreters.items():
        real = inventory.program(interpreter(line) or "")
        if real:
            yield Use(user=script, how=RUNS, evidence=f"#!{line}", used=real)


def interpreter(line: str) -> str | None:
    """Return the program that a #! line starts: a path, or the name that env looks up; None for an empty line."""
    words = line.split()
    if not words:
        return None
    if posixpath.basename(words[0]) == "env":
        rest = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
        return rest[0] if rest else words[0]
    return words[0]


def _depends(inventory: Inventory) -> Iterator[Use]:
    keys = package_keys(inventory.packages)
    providers: dict[str, list[str]] = defaultdict(list)
    for key, package in zip(keys, inventory.packages, strict=True):
        for name in {package.name, *map(_bare, package.provides)}:
            providers[name].append(key)
    for key, package in zip(keys, inventory.packages, strict=True):
        for wanted in package.depends:
            for used in dict.fromkeys(used for one in wanted.split("|") for used in providers.get(_bare(one), ())):
                yield Use(user=key, how=DEPENDS, evidence=wanted, used=used)


def _bare(relation: str) -> str:
    """Return the name in a relation of packages: 'libc6' of 'libc6:any (>= 2.34)'."""
    match = re.match(r"\s*([^\s(:\[]+)", relation)
    return match[1] if match else ""


def _requires(inventory: Inventory) -> Iterator[Use]:
    packages = packaged(inventory)
    keys = [package or key for package, key in zip(packages, distribution_keys(inventory), strict=True)]
    by_name: dict[str, list[str]] = defaultdict(list)
    for key, each in zip(keys, inventory.distributions, strict=True):
        by_name[canonicalize_name(each.name)].append(key)
    for key, package, each in zip(keys, packages, inventory.distributions, strict=True):
        for text in each.requires:
            for used in by_name.get(required(text) or "", ()):
                # What a package brought uses what packages brought; what pip installed, what pip installed.
                if bool(package) == used.startswith("debian:"):
                    yield Use(user=key, how=REQUIRES, evidence=text, used=used)


# --- one image, for all questions about it


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What build.toml asks for by name; all empty for an image that was not built from it."""

    packages: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()
    collect: tuple[str, ...] = ()


def sources(config: Config, labels: Mapping[str, str]) -> Sources:
    """Return what *config* asks for in an image with these *labels*; nothing where it is not of this project."""
    if labels.get(LABEL_PROJECT) != config.project.name:
        return Sources()
    return Sources(
        packages=config.runtime.packages,
        requirements=config.python.requirements,
        collect=(*config.collect.required, *config.collect.optional),
    )


@dataclass(frozen=True)
class Image:
    """One image, with what is worked out of it once for all questions.

    ``allow``: what the host mounts at run time, as `linkage.resolve` takes it.
    """

    inventory: Inventory
    attribution: Attribution
    listing: Listing | None = None
    sources: Sources = field(default_factory=Sources)
    allow: Mapping[str, str] = field(default_factory=lambda: HOST_LIBRARIES)

    @cached_property
    def components(self) -> Mapping[str, Component]:
        """Every component by its key."""
        return {component.key: component for component in self.attribution.components}

    @cached_property
    def packages(self) -> Mapping[str, Package]:
        """Every package of the distribution by its key."""
        return dict(zip(package_keys(self.inventory.packages), self.inventory.packages, strict=True))

    @cached_property
    def uses(self) -> tuple[Use, ...]:
        """Every use between nodes that belong to a component."""
        found = uses(self.inventory, resolve(self.inventory, allow=self.allow))
        return tuple(use for use in found if self.component(use.user) and self.component(use.used))

    def component(self, node: str) -> str | None:
        """Return the key of the component that a node belongs to; None for a path that is no regular file."""
        return self.attribution.owners.get(node) if node.startswith("/") else node
