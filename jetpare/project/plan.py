"""What is built, in which order: a pure function from a Config and a choice to nodes.

A node is one thing that takes time and can fail: an input (a base system, a stand-in, a download) or a stage of an
image.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from graphlib import TopologicalSorter

from jetpare.base.errors import ConfigError
from jetpare.base.text import suggest
from jetpare.config.schema import Config, Context, ImageSettings, Profile
from jetpare.config.values import BUILDER, INPUTS, architecture_of


class NodeKind(str, Enum):
    """How a node is made."""

    BOOTSTRAP = "bootstrap"  # a base system: pulled where a registry answers, else made with mmdebstrap
    DOWNLOAD = "download"  # an archive, checked against its sha256
    INPUT = "input"  # a target of a Dockerfile that other Dockerfiles build on
    STAGE = "stage"  # a stage of an image; its record is brought out
    IMAGE = "image"  # the last stage: becomes the image


@dataclass(frozen=True, kw_only=True)
class Node:
    """One step of the plan. ``label`` is its name for people, ``target`` its name in the bake definition."""

    group: str  # the image's name, or "inputs"
    name: str
    kind: NodeKind
    needs: tuple[str, ...] = ()  # labels

    @property
    def label(self) -> str:
        """'cuda/gdal'."""
        return f"{self.group}/{self.name}"

    @property
    def target(self) -> str:
        """'cuda-gdal'; a bake target must not hold a dot or a slash."""
        return f"{self.group}-{self.name}".replace(".", "_")

    @property
    def baked(self) -> bool:
        """Whether BuildKit makes it."""
        return self.kind in {NodeKind.INPUT, NodeKind.STAGE, NodeKind.IMAGE}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Nodes in an order in which each stands after what it needs.

    ``host``: the engine's own platform. ``cross``: what only builds (compilers, downloads) runs there, for *platform*.
    """

    profile_name: str
    profile: Profile
    platform: str
    host: str
    cross: bool
    images: dict[str, ImageSettings]
    nodes: tuple[Node, ...]

    @property
    def builder_platform(self) -> str:
        """Where what only builds is run."""
        return self.host if self.cross else self.platform

    @property
    def emulated(self) -> bool:
        """Whether the engine's processor cannot run what is built."""
        return architecture_of(self.host) != architecture_of(self.platform)

    @property
    def how(self) -> str:
        """How the engine builds for another architecture than its own."""
        return f"cross-built on {self.host}, emulated where it must run" if self.cross else f"emulated on {self.host}"

    @property
    def wants_cuda(self) -> bool:
        """Whether a torch without CUDA is a fault: not where none is to be had.

        The default index has CUDA builds of torch for amd64 only; an index of the profile's own is there to have them.
        """
        return self.profile.cuda and (bool(self.profile.indexes) or architecture_of(self.platform) == "amd64")

    def node(self, label: str) -> Node:
        """The node called *label*."""
        return next(node for node in self.nodes if node.label == label)

    def stages_below(self, node: Node) -> tuple[str, ...]:
        """The stage of *node* and every stage of the same image that it needs, itself first."""
        stages = self.images[node.group].stages
        found = [node.name]
        for name in found:  # grows while it is walked
            found += [need for need in stages[name] if need in stages and need not in found]
        return tuple(found)

    def contexts_of(self, node: Node) -> tuple[str, ...]:
        """The contexts that building *node* reads: its own and those of the stages that it needs."""
        if node.kind is NodeKind.INPUT:
            return self.profile.contexts[node.name].needs
        stages = self.images[node.group].stages
        needs = dict.fromkeys(need for stage in self.stages_below(node) for need in stages[stage])
        return tuple(need for need in needs if need not in stages)


@dataclass(frozen=True, kw_only=True)
class Platforms:
    """What is built for, what the engine's own is, and whether it builds for another one by its own processor."""

    target: str
    host: str
    cross: bool = False


def make_plan(
    *, profile: tuple[str, Profile], platforms: Platforms, images: dict[str, ImageSettings], only: str | None = None
) -> Plan:
    """The plan for *images*; with *only* (a label), just that node and what it needs."""
    profile_name, settings = profile
    nodes = {node.label: node for node in _inputs(settings, cross=platforms.cross)}
    for name, image in images.items():
        nodes |= {node.label: node for node in _stages(name, image, nodes)}
    goals = [only] if only else [label for label, node in nodes.items() if node.kind is NodeKind.IMAGE]
    wanted = set().union(*(_closure(nodes, goal) for goal in goals))
    # Input order is kept among equals: the order in build.toml is the order on the screen.
    order = _stable_order({label: node.needs for label, node in nodes.items() if label in wanted})
    return Plan(
        profile_name=profile_name,
        profile=settings,
        platform=platforms.target,
        host=platforms.host,
        cross=platforms.cross,
        images=images,
        nodes=tuple(nodes[label] for label in order),
    )


CUDNN = "cudnn"  # the stage that [collect] is for


def with_cudnn(images: dict[str, ImageSettings], source: str) -> dict[str, ImageSettings]:
    """*images* as they are with cuDNN from *source*: unless that is JetPack, the stage needs the image's base alone."""
    if source == "jetpack":
        return images
    return {
        name: image.model_copy(update={"stages": {**image.stages, CUDNN: (image.base,)}})
        if CUDNN in image.stages
        else image
        for name, image in images.items()
    }


def find_stage(config: Config, stage: str, image: str | None) -> str:
    """The label of *stage* in *image*; with None, in the last image of build.toml that has it and is not optional."""
    stages = list(dict.fromkeys(name for table in config.images.values() for name in table.stages))
    if stage not in stages:
        raise ConfigError(f"there is no stage '{stage}'{suggest(stage, stages)}. The stages are: {', '.join(stages)}.")
    having = [name for name, table in config.images.items() if stage in table.stages]
    if image is None:
        usual = [name for name in having if not config.images[name].optional]
        return f"{(usual or having)[-1]}/{stage}"
    config.pick_images((image,))
    if image not in having:
        raise ConfigError(f"image '{image}' has no stage '{stage}'. Images that have it: {', '.join(having)}.")
    return f"{image}/{stage}"


def _inputs(profile: Profile, *, cross: bool) -> Iterable[Node]:
    for name, context in profile.contexts.items():
        kind = _input_kind(context)
        if kind is not None and (cross or name != BUILDER):
            needs = tuple(f"{INPUTS}/{need}" for need in context.needs)
            built_on = _builder(profile) if cross and kind is NodeKind.INPUT else ()
            yield Node(group=INPUTS, name=name, kind=kind, needs=(*needs, *built_on))


def _builder(profile: Profile) -> tuple[str, ...]:
    """The node of the system that builds for another architecture, where it is one."""
    return (f"{INPUTS}/{BUILDER}",) if _input_kind(profile.contexts[BUILDER]) else ()


def _input_kind(context: Context) -> NodeKind | None:
    if context.suite:
        return NodeKind.BOOTSTRAP
    if context.urls:
        return NodeKind.DOWNLOAD
    return NodeKind.INPUT if context.target else None  # an image or a folder needs nothing before it


def _stages(name: str, image: ImageSettings, inputs: Mapping[str, Node]) -> Iterable[Node]:
    made = {node.name: label for label, node in inputs.items() if node.group == INPUTS}
    for stage, needs in image.stages.items():
        labels = (f"{name}/{need}" if need in image.stages else made.get(need) for need in needs)
        yield Node(
            group=name,
            name=stage,
            kind=NodeKind.IMAGE if stage == image.final else NodeKind.STAGE,
            # What is pulled or lies in a folder is no node.
            needs=tuple(dict.fromkeys(label for label in (*labels, made.get(BUILDER)) if label)),
        )


def _closure(nodes: dict[str, Node], label: str) -> set[str]:
    found = {label}
    for need in nodes[label].needs:
        found |= _closure(nodes, need)
    return found


def _stable_order(graph: dict[str, tuple[str, ...]]) -> list[str]:
    sorter = TopologicalSorter(graph)
    sorter.prepare()
    position = {label: index for index, label in enumerate(graph)}
    order: list[str] = []
    waiting: set[str] = set()
    while sorter.is_active():
        waiting.update(sorter.get_ready())
        label = min(waiting, key=position.__getitem__)
        waiting.remove(label)
        order.append(label)
        sorter.done(label)
    return order
