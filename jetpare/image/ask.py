"""Answer questions about one image, from what is kept where the same was asked before."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from jetpare.config.schema import Config
from jetpare.image.attribution import Attribution, attribute
from jetpare.image.explain import Explained, explain, similar
from jetpare.image.host_libraries import allowed
from jetpare.image.inventory import Inventory
from jetpare.image.kept import Held, kept
from jetpare.image.layers import Listing
from jetpare.image.linkage import resolve
from jetpare.image.needs import Image, Use, sources, uses


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What a word means in one image. ``close``: names that look like it, where it means nothing."""

    image_bytes: int
    subjects: tuple[Explained, ...]
    close: tuple[str, ...] = ()


@dataclass(frozen=True)
class KeptImage(Image):
    """An image whose uses were kept, or will be."""

    find_uses: Callable[[], tuple[Use, ...]] = tuple

    @cached_property
    def uses(self) -> tuple[Use, ...]:
        """Every use between nodes that belong to a component."""
        return tuple(use for use in self.find_uses() if self.component(use.user) and self.component(use.used))


def owned(inventory: Held[Inventory], groups: Mapping[str, Sequence[str]], *, state: Path) -> Attribution:
    """Return `attribution.attribute` of *inventory* and *groups*."""
    return kept(
        state,
        "attribution",
        [inventory],
        {"groups": groups},
        lambda: attribute(inventory.content, groups=groups),
        Attribution,
    )


def linked(inventory: Held[Inventory], allow: Mapping[str, str], *, state: Path) -> tuple[Use, ...]:
    """Return `needs.uses` of *inventory*, for a host that mounts *allow*."""
    return kept(
        state,
        "uses",
        [inventory],
        {"allow": allow},
        lambda: uses(inventory.content, resolve(inventory.content, allow=allow)),
        tuple[Use, ...],
    )


def explanation(
    word: str, inventory: Held[Inventory], listing: Held[Listing], config: Config, *, state: Path
) -> Explanation:
    """Explain *word* in the image of *inventory* and *listing*, a part of the project that *config* describes."""

    def make() -> Explanation:
        allow = allowed(config.audit.host_libraries)
        image = KeptImage(
            inventory.content,
            owned(inventory, config.groups, state=state),
            listing.content,
            sources(config, inventory.content.settings.labels),
            allow,
            lambda: linked(inventory, allow, state=state),
        )
        subjects = explain(image, word)
        close = () if subjects else tuple(similar(image, word))
        return Explanation(image_bytes=image.inventory.bytes, subjects=subjects, close=close)

    return kept(
        state,
        "explanation",
        [inventory, listing],
        {"word": word, "config": config},
        make,
        Explanation,
    )
