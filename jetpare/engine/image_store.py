"""Inspect, tag and remove the images of an engine.

Everything here asks the engine for JSON; nothing matches English text. Newer engines leave empty fields out of their
answers, so every field is read with ``.get()``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from packaging.version import Version

from jetpare.base.errors import ConfigError, EngineError
from jetpare.engine import api
from jetpare.engine.model import Engine, ImageFacts, LayerFacts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from docker import DockerClient

REGISTRY_SECONDS = 15.0
MANIFESTS_API = Version("1.47")  # from then on an engine lists an image's manifests with their sizes

# Instructions that never make a layer: they tell a history entry of size 0 from an empty layer.
NO_LAYER = frozenset(
    {"ARG", "CMD", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "MAINTAINER", "ONBUILD", "SHELL"}
    | {"STOPSIGNAL", "USER", "VOLUME"}
)

# Every RUN of our Dockerfiles mounts its script there, and BuildKit describes a cache record by its command.
OUR_COMMANDS = "/run/jetpare/"


def inspect_image(engine: Engine, reference: str) -> ImageFacts | None:
    """Inspect the image *reference* (a name or an id) in *engine*; None when it has no such image.

    Raises ConfigError where *reference* is neither.
    """
    from docker.errors import ImageNotFound

    with api.client(engine) as docker:
        calls: Any = docker.api  # its stubs lack this call
        try:
            image = inspected(docker, reference)
            history = calls.history(image["Id"])
        except ImageNotFound:
            return None
        return image_facts(reference, image, history, store=api.store_of(docker.info()))


def inspected(docker: DockerClient, reference: str) -> Mapping[str, Any]:
    """Return the engine's JSON of the image *reference*. Raises ConfigError, or docker's ImageNotFound."""
    from jetpare.config.values import IMAGE_REFERENCE

    # The reference becomes part of the request's address, where '..' would lead to something other than an image.
    if not IMAGE_REFERENCE.fullmatch(re.sub(r"@sha256:[0-9a-f]{64}$", "", reference)):
        raise ConfigError(
            f"{reference!r} is not a valid image reference; expected [HOST[:PORT]/]PATH[:TAG][@DIGEST] with the path "
            "in lower case, or an image's id. `docker images` lists them."
        )
    calls: Any = docker.api  # its stubs lack this call
    image: Mapping[str, Any] = calls.inspect_image(reference)
    return image


def image_facts(
    reference: str, image: Mapping[str, Any], history: Sequence[Mapping[str, Any]], *, store: str
) -> ImageFacts:
    """Convert the engine's JSON (inspect; history, newest first) to ImageFacts."""
    config = image.get("Config") or {}
    layer_ids = tuple((image.get("RootFS") or {}).get("Layers") or ())
    layers = pair_layers(layer_ids, history)
    size = image.get("Size")
    created = str(image.get("Created") or "")
    parts = (image.get("Os"), image.get("Architecture"), image.get("Variant"))
    return ImageFacts(
        reference=reference,
        id=str(image.get("Id")),
        created=None if created.startswith("0001-") or not created else created,
        platform="/".join(str(part) for part in parts if part),
        labels=dict(config.get("Labels") or {}),
        env=dict(entry.partition("=")[::2] for entry in config.get("Env") or ()),
        repo_digests=tuple(image.get("RepoDigests") or ()),
        store=store,
        layer_ids=layer_ids,
        layers=layers,
        layers_bytes=_layers_bytes(store, size, layers, history),
        engine_bytes=None if size is None else int(size),
    )


def _layers_bytes(
    store: str, size: int | None, layers: tuple[LayerFacts, ...] | None, history: Sequence[Mapping[str, Any]]
) -> int | None:
    if store != "containerd":
        return size  # there .Size is this sum, and also counts layers without a history entry
    if layers is not None:
        return sum(layer.size for layer in layers)
    total = sum(int(entry.get("Size") or 0) for entry in history)
    return total or None


def pair_layers(layer_ids: Sequence[str], history: Sequence[Mapping[str, Any]]) -> tuple[LayerFacts, ...] | None:
    """Return each layer with its size, oldest first; None if it is uncertain which size belongs to which layer.

    *history* is newest first and does not say which of its entries made a layer. An entry with a size did. One without
    a size may be an empty layer (WORKDIR, an empty COPY) or none at all (ENV): its instruction decides, and the counts
    must agree.
    """
    entries = layer_entries(layer_ids, history)
    if entries is None:
        return None
    sizes = (int(entry.get("Size") or 0) for entry in entries)
    return tuple(LayerFacts(diff_id=one, size=size) for one, size in zip(layer_ids, sizes, strict=True))


def layer_entries(
    layer_ids: Sequence[str], history: Sequence[Mapping[str, Any]]
) -> tuple[Mapping[str, Any], ...] | None:
    """Return the entry of *history* that made each layer, oldest first; None if uncertain: see `pair_layers`."""
    oldest_first = tuple(reversed(history))
    candidates = (
        tuple(entry for entry in oldest_first if entry.get("Size")),
        tuple(entry for entry in oldest_first if entry.get("Size") or _may_be_layer(entry)),
        oldest_first,
    )
    return next((entries for entries in candidates if len(entries) == len(layer_ids)), None)


def _may_be_layer(entry: Mapping[str, Any]) -> bool:
    """Return whether a history entry is of an instruction that can make a layer; a shell command can."""
    text = str(entry.get("CreatedBy") or "")
    _, marker, rest = text.partition("#(nop)")  # the classic builder's mark of an instruction that runs nothing
    words = (rest if marker else text).split()
    return words[:2] != ["WORKDIR", "/"] and (not words or words[0] not in NO_LAYER)


def registry_trouble(engine: Engine, reference: str, *, timeout: float = REGISTRY_SECONDS) -> str:
    """Return why the engine cannot get *reference* from its registry within *timeout* seconds; '' when it can."""
    try:
        with api.client(engine, timeout=timeout) as docker:
            calls: Any = docker.api  # its stubs lack this call
            calls.inspect_distribution(reference)
    except EngineError as error:
        return str(error).removeprefix(f"{engine.host}: ")
    return ""


def content_bytes(engine: Engine, image: ImageFacts) -> int | None:
    """Return the bytes that the containerd store holds of *image* to push it: manifest, config, compressed layers.

    None if a part of it is missing. Before API 1.47 the engine's .Size was just this (moby's
    daemon/containerd/image.go); later it came to count the unpacked files too (moby pull request 53426).
    """
    with api.client(engine) as docker:
        calls: Any = docker.api  # its stubs lack these
        if Version(calls.api_version) < MANIFESTS_API:
            return image.engine_bytes
        answer = calls.get(f"{calls.base_url}/v{calls.api_version}/images/json", params={"manifests": "true"})
        answer.raise_for_status()
        return content_of(answer.json(), image)


def content_of(listed: Sequence[Mapping[str, Any]], image: ImageFacts) -> int | None:
    """Return the same as `content_bytes`, from the engine's list of images with their manifests."""
    for entry in listed:
        for manifest in entry.get("Manifests") or () if entry.get("Id") == image.id else ():
            platform = (manifest.get("ImageData") or {}).get("Platform")
            if manifest.get("Kind") == "image" and manifest.get("Available") and of_platform(platform, image.platform):
                return int(manifest["Size"]["Content"])
    return None


def of_platform(entry: Mapping[str, Any] | None, platform: str) -> bool:
    """Return whether a manifest's platform is *platform*, such as linux/arm64/v8; a variant may be left out."""
    wanted = platform.split("/")
    have = [str((entry or {}).get(key) or "") for key in ("os", "architecture", "variant")]
    return have[:2] == wanted[:2] and (len(wanted) < len(have) or have[2] in ("", wanted[2]))


def held_bytes(engine: Engine, references: Iterable[str]) -> int:
    """Return the bytes on the engine's disk that a build of the images *references* does not have to write again.

    These are the layers of the images that the engine has, each counted once, and the build cache of our own commands.
    BuildKit does not say which profile or project a cache record is for, so all that jetpare's commands left counts.
    """
    layers: dict[str, int] = {}
    unpaired = 0
    for reference in references:
        image = inspect_image(engine, reference)
        if image is None:
            continue
        if image.layers is None:
            unpaired = max(unpaired, image.layers_bytes or 0)  # they may share layers, so only the largest counts
        else:
            layers |= {layer.diff_id: layer.size for layer in image.layers}
    with api.client(engine) as docker:
        records = docker.df().get("BuildCache") or ()
    cache = sum(int(each.get("Size") or 0) for each in records if is_our_cache(each) and not each.get("Shared"))
    return sum(layers.values()) + unpaired + cache


def is_our_cache(record: Mapping[str, Any]) -> bool:
    """Return whether a build cache record is of a command of jetpare's, whose scripts are mounted in OUR_COMMANDS."""
    return OUR_COMMANDS in str(record.get("Description") or "")


def tag_image(engine: Engine, image_id: str, reference: str) -> None:
    """Give the image *image_id* the name *reference*, taking it from the image that had it."""
    repository, _, tag = reference.rpartition(":") if ":" in reference.rpartition("/")[2] else (reference, "", "latest")
    with api.client(engine) as docker:
        docker.api.tag(image_id, repository, tag)


def remove_image(engine: Engine, reference: str) -> bool:
    """Remove the name *reference*, and the image with its last name. Returns False if there was no such name."""
    from docker.errors import ImageNotFound

    with api.client(engine) as docker:
        try:
            docker.api.remove_image(reference)
        except ImageNotFound:
            return False
    return True
