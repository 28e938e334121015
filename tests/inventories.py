"""Inventories made by hand for the tests: `image({"/usr/lib/liba.so": 10, "/lib": "-> usr/lib"}, elfs=[elf(...)])`."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from typing import Any

from jetpare.image.inventory import Elf, File, Inventory, Settings


def image(entries: Mapping[str, int | str | File], *, elfs: Sequence[Elf] = (), **more: Any) -> Inventory:
    """An inventory of *entries*: a number is a file of that size, '-> x' a link, a File itself. Folders are made."""
    files: dict[str, File] = {}
    for path, what in {**dict.fromkeys((each.path for each in elfs), 1000), **entries}.items():
        for parent in _parents(path):
            files.setdefault(parent, File(path=parent, kind="dir", mode=0o755))
        if isinstance(what, File):
            files[path] = what
        elif isinstance(what, str):
            files[path] = File(path=path, kind="link", target=what.removeprefix("-> "), mode=0o777)
        else:
            files[path] = File(path=path, kind="file", size=what, mode=0o644)
    values = {"image_id": "sha256:" + "0" * 64, "platform": "linux/amd64", "how": "container", "layers": ()}
    settings = Settings(env={"PATH": "/usr/local/bin:/usr/bin:/bin"})
    ordered = tuple(files[path] for path in sorted(files))
    return Inventory(**{"settings": settings, **values, "files": ordered, "elfs": tuple(elfs), **more})


def elf(path: str, **more: Any) -> Elf:
    """A 64-bit x86-64 library, unless *more* says otherwise; its soname is its name."""
    return Elf(
        **{"path": path, "type": "dyn", "machine": "x86_64", "bits": 64, "soname": posixpath.basename(path), **more}
    )


def _parents(path: str) -> list[str]:
    parents = []
    while path != "/":
        path = posixpath.dirname(path)
        parents.append(path)
    return parents
