"""Check what one table of build.toml says against another."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Literal

from jetpare.base.text import suggest
from jetpare.config.schema import Config, Cudnn, ImageSettings, Profile
from jetpare.config.table_names import key_text, table_name
from jetpare.config.values import INPUTS, WHEELS


def cross_faults(config: Config, root: Path) -> list[str]:
    """Return a line for each name in *config* that points at nothing, and each path that is missing below *root*."""
    faults = [*_unknown_names(config)]
    for name, profile in config.profiles.items():
        faults += [*_unknown_budgets(config, name, profile), *_other_versions(name, profile)]
    for name, image in config.images.items():
        faults += [*_unknown_needs(name, image, config.profiles), *_circles_and_ends(name, image)]
    return [*faults, *_same_targets(config), *path_faults(config, root)]


def _unknown_names(config: Config) -> Iterator[str]:
    """Yield the faults of names of images and profiles that build.toml does not have, or must not have."""
    images, profiles = config.images, config.profiles
    baseline = config.project.baseline
    if baseline not in images:
        yield f"[project] baseline: there is no image {baseline!r}{suggest(baseline, images)}"
    for architecture, profile in config.project.default_profile.items():
        if profile not in profiles:
            unknown = f"there is no profile {profile!r}{suggest(profile, profiles)}"
            yield f"[project] default_profile.{key_text(architecture)}: {unknown}"
    for number, waiver in enumerate(config.audit.waivers, start=1):
        if waiver.image is not None and waiver.image not in images:
            unknown = f"there is no image {waiver.image!r}{suggest(waiver.image, images)}"
            yield f"[audit] waivers item {number} image: {unknown}"
    if INPUTS in images:
        yield f"[images] {INPUTS}: this name is reserved for the contexts that all images share; choose another"


def _unknown_budgets(config: Config, name: str, profile: Profile) -> Iterator[str]:
    """Yield the faults of budgets for images and stages that do not exist."""
    labels = [f"{image}/{stage}" for image, table in config.images.items() for stage in table.stages]
    labels += [f"{INPUTS}/{context}" for context in profile.contexts]
    known = {"image_gb": ("image", list(config.images))}
    known |= dict.fromkeys(("stage_gb", "cold_seconds", "warm_seconds"), ("stage", labels))
    for key, (what, names) in known.items():
        for each in getattr(profile.budget, key):
            if each not in names:
                place = table_name(["profiles", name, "budget", key])
                yield f"{place} {key_text(each)}: there is no {what} {each!r}{suggest(each, names)}"


def _other_versions(name: str, profile: Profile) -> Iterator[str]:
    """Yield the faults of URLs of GDAL's sources that are not of the version that the profile builds."""
    source = profile.contexts.get("gdal-source")
    whole = re.compile(rf"(?<![0-9])(?<![0-9]\.){re.escape(profile.gdal)}(?!\.?[0-9])")
    for number, url in enumerate(source.urls if source else (), start=1):
        if not whole.search(url):
            yield (
                f"{table_name(['profiles', name, 'contexts', 'gdal-source'])} urls item {number}: "
                f"gdal is {profile.gdal!r}, but the URL {url!r} is of another version"
            )


def _unknown_needs(name: str, image: ImageSettings, profiles: Mapping[str, Profile]) -> Iterator[str]:
    """Yield the faults of needs that are neither a stage of the image nor a context, with the profiles without them."""
    wanted: list[tuple[str, str, list[str]]] = [("base", image.base, [])]
    for stage, needs in image.stages.items():
        wanted += [(f"stages.{key_text(stage)}", need, list(image.stages)) for need in needs]
    for key, need, others in wanted:
        lacking = [each for each, profile in profiles.items() if need not in (*profile.contexts, *others)]
        if lacking:
            what = "no stage of the image and no context" if others else "no context"
            yield (
                f"{table_name(['images', name])} {key}: {need!r} is {what} of profile "
                f"{' and '.join(key_text(each) for each in lacking)}"
                f"{suggest(need, [*others, *profiles[lacking[0]].contexts])}"
            )


def _circles_and_ends(name: str, image: ImageSettings) -> Iterator[str]:
    """Yield the faults of an image whose stages have no order, or do not end in one stage."""
    place = f"{table_name(['images', name])} stages"
    try:
        TopologicalSorter(image.stages).prepare()
    except CycleError as error:
        yield f"{place}: the stages need each other in a circle: {' -> '.join(error.args[1])}"
        return
    last = set(image.stages).difference(*image.stages.values())
    if len(last) != 1:
        yield f"{place}: exactly one stage must be needed by no other, here: {', '.join(sorted(last))}"


def _same_targets(config: Config) -> Iterator[str]:
    """Yield the faults of names that differ here but are one in the bake definition.

    See plan.Node.target and bake.report_target.
    """
    owners: dict[str, str] = {f"{INPUTS}-{WHEELS}": f"[python] {WHEELS}"}
    for image, table in config.images.items():
        for stage in table.stages:
            place = f"{table_name(['images', image])} stages.{key_text(stage)}"
            for suffix in ("", "-report", "-base-settings"):
                yield from _claim(owners, f"{image}-{stage}{suffix}", place)
    for name, profile in config.profiles.items():
        taken = dict(owners)  # only one profile is built at a time
        for context in profile.contexts:
            yield from _claim(
                taken, f"{INPUTS}-{context}", f"{table_name(['profiles', name, 'contexts'])} {key_text(context)}"
            )


def _claim(owners: dict[str, str], name: str, place: str) -> Iterator[str]:
    target = name.replace(".", "_")
    owner = owners.setdefault(target, place)
    if owner != place:
        yield f"{place}: its bake target would be {target!r}, which is already the target of {owner}; rename one"


def path_faults(config: Config, root: Path) -> Iterator[str]:
    """Yield the faults of files and folders that build.toml names and that are not there."""
    for place, path, kind in _paths(config):
        if not _is_there(root / path, folder=kind == "folder"):
            yield f"{place}: there is no {kind} {str(path)!r}"


def _paths(config: Config) -> Iterator[tuple[str, Path, Literal["file", "folder"]]]:
    """Yield each path that build.toml names, with its place there, and what must be found at it."""
    for number, wheel in enumerate(config.python.wheels, start=1):
        yield f"[python] wheels item {number}", wheel, "folder"
    for name, image in config.images.items():
        yield f"{table_name(['images', name])} dockerfile", image.dockerfile, "file"
    tables: dict[tuple[str, ...], Cudnn] = {("cudnn",): config.cudnn}
    for name, profile in config.profiles.items():
        for context, table in profile.contexts.items():
            place = table_name(["profiles", name, "contexts", context])
            if table.dockerfile is not None:
                yield f"{place} dockerfile", table.dockerfile, "file"
            if table.folder is not None:
                yield f"{place} folder", table.folder, "folder"
        if profile.cudnn is not None:
            tables["profiles", name, "cudnn"] = profile.cudnn
    for path, cudnn in tables.items():
        if cudnn.repository is not None:
            yield f"{table_name(path)} repository.key", cudnn.repository.key, "file"


def _is_there(path: Path, *, folder: bool) -> bool:
    try:
        return path.is_dir() if folder else path.is_file()
    except (OSError, ValueError):  # a name that is too long, or that no file can have
        return False
