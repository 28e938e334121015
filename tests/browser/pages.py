"""Pages to look at: a usual one, one made to do harm, and a large one."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace

from jetpare.compare.comparison import Comparison, ConfigurationRow, PackageRow, PathBytes
from jetpare.compare.differences import complete
from jetpare.image.inventory import Inventory
from jetpare.views import html
from tests.comparisons import CONTENT, INVENTORIES, figures, full, skeleton
from tests.inventories import image

IMAGES = ("jetpack", "cuda")
LARGE = 60_000
OWNERS = {
    name: {path: key for key, _, _, _, _, held in CONTENT.values() for path in held.get(name, {})} for name in IMAGES
}
HOSTILE = (
    "<script>window.hit=1<script>",
    '"onmouseover="window.hit=1" autofocus onfocus="window.hit=1',
    "<img src=x onerror=window.hit=1>",
    "{{ 7*7 }}<!--",
    "two\nlines",
    "no utf-8 \udcff\udc80",
    "from the right \u202egpj.exe",
    "line separator \u2028 ${window.hit=1}",
)
BREAKOUT = "/srv/</script><script>window.hit=1</script>"  # folders and a file, since names have no slash


def usual() -> str:
    """Two images with everything that there is, and one that is not built."""
    return html.render(full(), INVENTORIES, owners=OWNERS)


def hostile() -> str:
    """Every hostile name as a file, a package, a setting, a component, a note, an image."""
    files = {f"/srv/{name}": 50_000_000 + 1_000_000 * number for number, name in enumerate(HOSTILE)}
    inventories = {name: image({**files, BREAKOUT: 90_000_000}) for name in IMAGES}
    named = replace(figures("cuda"), reference=HOSTILE[0], notes=HOSTILE)
    assert named.nobody is not None
    named = replace(
        named,
        nobody=replace(named.nobody, largest=tuple(PathBytes(path=name, bytes=1) for name in (*HOSTILE, BREAKOUT))),
    )
    comparison = complete(skeleton(figures("jetpack"), named, notes=HOSTILE), INVENTORIES, min_saving_percent=10)
    return html.render(
        replace(
            comparison,
            description=HOSTILE[0],
            caveat=HOSTILE[2],
            packages=tuple(
                PackageRow(kind="debian", name=name, change="changed", versions=dict.fromkeys(IMAGES, name), bytes={})
                for name in HOSTILE
            ),
            configuration=tuple(
                ConfigurationRow(key=name, values=dict.fromkeys(IMAGES, name), why=name) for name in HOSTILE
            ),
        ),
        inventories,
    )


def large(files: int = LARGE) -> str:
    """Two images of *files* files each."""
    return html.render(*large_images(files))


def large_images(files: int) -> tuple[Comparison, Mapping[str, Inventory]]:
    """Two images of *files* files each, in thousands of folders, with sizes as uneven as real ones."""
    comparison = complete(skeleton(*map(figures, IMAGES)), INVENTORIES, min_saving_percent=10)
    return comparison, {name: image(dict(_tree(files, seed))) for seed, name in enumerate(IMAGES)}


def _tree(files: int, seed: int) -> list[tuple[str, int]]:
    shape, sizes = random.Random(0), random.Random(seed)  # noqa: S311 - no secrets
    folders = ["/usr/lib"]
    for number in range(files // 10):
        folders.append(f"{shape.choice(folders[-500:])[:150]}/folder-{number}")
    return [
        (f"{shape.choice(folders)}/file-{number}.py", int(400 * sizes.paretovariate(0.6)) % 800_000_000)
        for number in range(files)
    ]
