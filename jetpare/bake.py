"""From a plan to a bake definition, and from a definition to a running `docker buildx bake`.

The definition is data and is built without an engine. Every stage is a target whose Dockerfile target is
'<stage>-report': exporting the small record that a stage leaves builds the stage itself. The last stage is exported
without a name, and the pipeline tags it when its checks have passed.
"""

from __future__ import annotations

import hashlib
import json
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jetpare import base_settings, process
from jetpare.base_settings import Settings
from jetpare.config import BUILDER, CUDA_TARGET, INPUTS, MULTIARCH, WHEELS, Config, Prune, architecture_of
from jetpare.files import digest, write_atomically
from jetpare.ledger import order
from jetpare.plan import CUDNN, Kind, Node, Plan

# Targets that are only linked to would be exported as untagged images otherwise: seconds, and gigabytes in the lists.
ENVIRONMENT = {"BUILDX_NO_DEFAULT_LOAD": "1"}
SECRETS = ("ca", "net")
CUDNN_KEY = "cudnn-key"
DOWNLOADS = "downloads"  # in the state folder
BASE = "base"  # the named context that is each image's own base
BASE_SETTINGS = "base-settings"  # the named context that has the base's settings and none of its files
NEW_ROOT = "slim"  # the stage that starts from BASE_SETTINGS


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a definition needs beyond build.toml. Paths are relative to the project's folder, where bake runs."""

    state: Path  # .jetpare
    cache_id: str = "shared"  # part of every cache mount's id
    fresh: frozenset[str] = frozenset()  # labels of the nodes that are built without the layer cache
    rebuild: Mapping[str, str] = field(
        default_factory=dict
    )  # by label: a value that is new when it is to be built again
    labels: Mapping[str, Mapping[str, str]] | None = None  # OCI labels by image
    base_settings: Mapping[str, Settings] = field(default_factory=dict)  # by image: of the base that NEW_ROOT needs


def stage_arguments(config: Config, plan: Plan, cache_id: str) -> dict[str, dict[str, str]]:
    """Build arguments by stage name; see the top of each Dockerfile for their meaning."""
    architecture = architecture_of(plan.platform)
    cached = {"CACHE_ID": f"{config.project.name}-{architecture}-{cache_id}"}
    if plan.cross:
        cached |= {"BUILDER": BUILDER, "BUILDER_PLATFORM": plan.builder_platform, "CROSS": architecture}
    places = {"multiarch": MULTIARCH.get(architecture, ""), "cuda_target": CUDA_TARGET.get(architecture, "")}
    collect = [pattern.format_map(places) for pattern in config.collect.required]
    collect += [f"{pattern.format_map(places)} ?" for pattern in config.collect.optional]
    return {
        "cudnn": {
            **cached,
            **_cudnn_arguments(config, plan),
            "CUDNN_TREE": CUDNN,  # an image without this stage adds nothing to its base
            "COLLECT": "\n".join(collect),
        },
        "gdal": {
            **cached,
            "GDAL_VERSION": plan.profile.gdal,
            "GDAL_BUILD": config.gdal.build,
            "GDAL_CMAKE": " ".join(config.gdal.cmake),
            "GDAL_DRIVERS": " ".join(config.gdal.raster_drivers),
            "OGR_DRIVERS": " ".join(config.gdal.vector_drivers),
            "GDAL_BUILD_PACKAGES": " ".join(config.gdal.packages),
            "JOBS": str(config.build.jobs),
        },
        "python": {
            **cached,
            "UV_VERSION": config.python.uv,
            "PYTHON_REQUIREMENTS": " ".join(config.python.requirements),
            "PYTHON_PROVIDED": " ".join(config.python.provided),
            "PYTHON_INDEXES": " ".join(plan.profile.indexes),
            "PYTHON_CUDA": "1" if plan.wants_cuda else "0",
        },
        "runtime": {**cached, "RUNTIME_PACKAGES": " ".join(config.runtime.packages)},
        "slim": {"PRUNE": json.dumps([_placed(rule, places) for rule in config.prune])},
        INPUTS: {**cached, "GDAL_VERSION": plan.profile.gdal},
    }


def _placed(rule: Prune, places: Mapping[str, str]) -> dict[str, Any]:
    """A rule of [[prune]] as scripts/image/prune.py reads it."""
    patterns = {"paths": rule.paths, "strip": rule.strip}
    found: dict[str, Any] = {kind: [each.format_map(places) for each in named] for kind, named in patterns.items()}
    return found | {"reason": rule.reason}


def _cudnn_arguments(config: Config, plan: Plan) -> dict[str, str]:
    """What differs by the source of cuDNN; an argument that a source does not use changes nothing of its layers."""
    cudnn = config.cudnn_of(plan.profile)
    used = {"CUDNN_SOURCE": cudnn.source, "CUDNN_PACKAGES": " ".join(cudnn.chosen)}
    if cudnn.source == "wheel":
        used["CUDNN_INDEXES"] = " ".join(plan.profile.indexes)
    if plan.cross:
        used["CUDNN_ON"] = BUILDER
    if cudnn.source == "apt" and cudnn.repository:
        used["CUDNN_REPOSITORY"] = " ".join(
            (cudnn.repository.url, cudnn.repository.suite, *cudnn.repository.components)
        )
    return used


def definition(config: Config, plan: Plan, options: Options) -> dict[str, Any]:
    """The bake definition of everything in *plan* that BuildKit makes."""
    maker = _Maker(config=config, plan=plan, options=options)
    targets: dict[str, Any] = {}
    for node in plan.nodes:
        if node.baked:
            targets |= maker.targets(node)
    if config.python.wheels:
        targets[f"{INPUTS}-{WHEELS}"] = maker.wheels()
    return {"target": targets}


@dataclass(frozen=True, kw_only=True)
class _Maker:
    config: Config
    plan: Plan
    options: Options

    def targets(self, node: Node) -> dict[str, Any]:
        common = self._common(node)
        if node.kind is Kind.INPUT:
            context = self.plan.profile.contexts[node.name]
            bases = {image.base for image in self.config.images.values()}
            name = input_tag(self.config, self.plan, node.name)
            output = f"type=docker,name={name}" if node.name in bases else "type=cacheonly"
            return {
                node.target: common
                | {"dockerfile": str(context.dockerfile), "target": context.target, "output": [output]}
                | {"labels": {LABEL_PROJECT: self.config.project.name}}
            }
        common["dockerfile"] = str(self.plan.images[node.group].dockerfile)
        report = common | {
            "target": f"{node.name}-report",
            "output": [f"type=local,dest={report_folder(self.options.state, node)}"],
        }
        if node.kind is Kind.STAGE:
            return {node.target: report}
        labels = dict((self.options.labels or {}).get(node.group, {}))
        made = {
            node.target: common | {"target": node.name, "output": ["type=docker"], "labels": labels},
            report_target(node): report,
        }
        return made | ({settings_target(node): self.settings(node)} if self._has_settings(node) else {})

    def settings(self, node: Node) -> dict[str, Any]:
        """Return the target of an image with the settings of the base of *node*, and none of its files."""
        text, arguments = base_settings.dockerfile(self.options.base_settings[node.group])
        return {
            "context": str(self.options.state / "empty"),
            "dockerfile-inline": text,
            "args": arguments,
            "platforms": [self.plan.platform],
        }

    def _has_settings(self, node: Node) -> bool:
        return starts_from_settings(self.plan, node) and node.group in self.options.base_settings

    def wheels(self) -> dict[str, Any]:
        folders = {f"wheels{number}": str(folder) for number, folder in enumerate(self.config.python.wheels)}
        copies = "".join(f"COPY --from={name} . /{name}/\n" for name in folders)
        return {
            "context": str(self.options.state / "empty"),
            "contexts": folders,
            "dockerfile-inline": "FROM scratch\n" + copies,
        }

    def _common(self, node: Node) -> dict[str, Any]:
        target: dict[str, Any] = {
            "context": ".",
            "contexts": self._contexts(node),
            "args": self._arguments(node),
            "platforms": [self.plan.platform],
            "secret": [f"id={name},src={file}" for name, file in self._secrets().items()],
        }
        fresh = self._fresh_stages(node)
        return target | ({"no-cache-filter": fresh} if fresh else {})

    def _secrets(self) -> dict[str, Path]:
        found = {name: secret_file(self.options.state, name) for name in SECRETS}
        cudnn = self.config.cudnn_of(self.plan.profile)
        # No secret, but a file that one RUN needs, from wherever in the project it stands.
        return found | ({CUDNN_KEY: cudnn.repository.key} if cudnn.repository and cudnn.source == "apt" else {})

    def _arguments(self, node: Node) -> dict[str, str]:
        by_stage = stage_arguments(self.config, self.plan, self.options.cache_id)
        if node.kind is Kind.INPUT:
            return by_stage[INPUTS]
        # The same Dockerfile stage must get the same arguments in every target, or its layers would not be found again.
        stages = self.plan.stages_below(node)
        found = {key: value for stage in stages for key, value in by_stage.get(stage, {}).items()}
        # Not no-cache-filter, which empties the stage's cache mounts too, the compiler's among them.
        tokens = {stage: self.options.rebuild.get(f"{node.group}/{stage}") for stage in stages}
        return found | {rebuild_argument(stage): token for stage, token in tokens.items() if token}

    def _fresh_stages(self, node: Node) -> list[str]:
        if node.kind is Kind.INPUT:
            context = self.plan.profile.contexts[node.name]
            return [str(context.target)] if node.label in self.options.fresh else []
        own = {f"{node.group}/{stage}" for stage in self.plan.images[node.group].stages}
        return [label.split("/")[1] for label in sorted(own & self.options.fresh)]

    def _contexts(self, node: Node) -> dict[str, str]:
        base = None if node.kind is Kind.INPUT else self.plan.images[node.group].base
        # One name each: buildx 0.13 cannot link to the same target by two names.
        found = {BASE if name == base else name: self._source(name) for name in self.plan.contexts_of(node)}
        if self.plan.cross:
            found[BUILDER] = self._source(BUILDER)
        if node.kind is not Kind.INPUT:
            has_wheels = bool(self.config.python.wheels)
            found[WHEELS] = f"target:{INPUTS}-{WHEELS}" if has_wheels else str(self.options.state / "empty")
            found |= {BASE_SETTINGS: f"target:{settings_target(node)}"} if self._has_settings(node) else {}
        return found

    def _source(self, name: str) -> str:
        context = self.plan.profile.contexts[name]
        if context.image or context.suite:
            return f"docker-image://{context_reference(self.config, self.plan, name)}"
        if context.urls:
            return str(download_folder(self.options.state, str(context.sha256)))
        if context.folder:
            return str(context.folder)
        return f"target:{Node(group=INPUTS, name=name, kind=Kind.INPUT).target}"


LABEL_PROJECT = "jetpare.project"
LABEL_REVISION = "org.opencontainers.image.revision"
REBUILD_PREFIX = "REBUILD_"


def rebuild_argument(stage: str) -> str:
    """The build argument that makes a stage be built again: 'REBUILD_GDAL'."""
    return REBUILD_PREFIX + re.sub(r"[^A-Z0-9]", "_", stage.upper())


def input_tag(config: Config, plan: Plan, name: str) -> str:
    """The tag of an input that is an image of ours: 'jetpare/l4t-cuda:rehearsal', 'jetpare/debian:bookworm-amd64'."""
    suite = plan.profile.contexts[name].suite
    if suite:
        return f"{config.project.name}/debian:{suite}-{architecture_of(input_platform(plan, name))}"
    return f"{config.project.name}/{name}:{plan.profile_name}"


def input_platform(plan: Plan, name: str) -> str:
    """The platform of an input: that of the images, except for what builds for another one."""
    return plan.builder_platform if name == BUILDER else plan.platform


def image_tag(config: Config, image: str, profile_name: str) -> str:
    """The tag of a finished image: 'jetpare/cuda:rehearsal'."""
    return f"{config.project.name}/{image}:{profile_name}"


def shell_tag(config: Config, plan: Plan, node: Node) -> str:
    """The tag of a stage while someone looks around in it: 'jetpare/cuda-gdal:rehearsal-shell'."""
    return f"{config.project.name}/{node.group}-{node.name}:{plan.profile_name}-shell"


def report_target(node: Node) -> str:
    """The bake target that exports the record of the last stage, which exports an image itself."""
    return f"{node.target}-report"


def settings_target(node: Node) -> str:
    """Return the bake target of the image with the base's settings."""
    return f"{node.target}-{BASE_SETTINGS}"


def starts_from_settings(plan: Plan, node: Node) -> bool:
    """Say whether building *node* needs the settings of its image's base in `Options.base_settings`."""
    return node.kind is Kind.IMAGE and NEW_ROOT in plan.stages_below(node)


def context_reference(config: Config, plan: Plan, name: str) -> str:
    """Return the image that the context *name* is: as build.toml has it, or as the engine has the stand-in."""
    context = plan.profile.contexts[name]
    if context.image:
        return context.image + (f"@{context.digest}" if context.digest else "")
    return input_tag(config, plan, name)


def call_targets(node: Node) -> tuple[str, ...]:
    """The bake targets that build *node*."""
    return (node.target, report_target(node)) if node.kind is Kind.IMAGE else (node.target,)


def report_folder(state: Path, node: Node) -> Path:
    """Where a stage's record is exported to."""
    return state / "reports" / node.target


def secret_file(state: Path, name: str) -> Path:
    """The file of a build secret."""
    return state / "secrets" / name


def download_folder(state: Path, sha256: str) -> Path:
    """The folder that holds one downloaded archive and nothing else."""
    return state / DOWNLOADS / sha256


def definition_file(state: Path, name: str = "bake") -> Path:
    """Where a definition stands when bake runs; one of another *name* is for a person to paste."""
    return state / f"{name}.json"


def command(docker: str, file: Path, targets: tuple[str, ...]) -> list[str]:
    """The argv that builds *targets* of the definition in *file*; to be run in the project's folder."""
    # Provenance would change the top digest at every build.
    return [docker, "buildx", "bake", "--file", str(file), "--provenance=false", *targets]


def write_definition(root: Path, state: Path, content: Mapping[str, Any], name: str = "bake") -> Path:
    """Write the definition, and the folders that it names, below *root*; its path is relative to *root*."""
    (root / state / "empty").mkdir(parents=True, exist_ok=True)
    file = definition_file(state, name)
    # Bake reads JSON through HCL, to which ${...} and %{...} are templates.
    text = json.dumps(content, indent=2).replace("${", "$${").replace("%{", "%%{")
    write_atomically(root / file, text + "\n")
    return file


def run(
    argv: list[str], *, root: Path, env: Mapping[str, str], metadata: Path, on_chunk: Callable[[bytes], None]
) -> tuple[int, dict[str, Any]]:
    """Run bake; the chunks of its event stream go to *on_chunk*. Returns the exit status and the metadata by target."""
    metadata.unlink(missing_ok=True)  # buildx wants a path that does not exist yet
    extra = ["--progress=rawjson", f"--metadata-file={metadata}"]
    status = process.stream([*argv, *extra], on_chunk, env={**env, **ENVIRONMENT}, cwd=root)
    try:
        found = json.loads(metadata.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        found = {}
    return status, found if isinstance(found, dict) else {}


def inputs_digest(root: Path, content: Mapping[str, Any], node: Node) -> str:
    """Return a digest of everything in the project that decides what building *node* gives.

    It covers its target and those it links to, without outputs, cache ids, the commit and what only asks for a stage to
    be built again; the stages of their Dockerfiles that they are made of, and what these take from the project; the
    content of folders, wherever they are. A base's settings are left out: they follow from the base. Two runs with the
    same digest did the same work, on any machine and in any checkout; after a difference BuildKit may still find much
    in its cache.
    """
    found = hashlib.sha256()
    taken: set[Path] = set()
    for target in sorted(_linked(content["target"], node.target)):
        table = dict(content["target"][target])
        kept = {key: table[key] for key in ("target", "platforms", "dockerfile") if key in table}
        kept["labels"] = {key: value for key, value in table.get("labels", {}).items() if key != LABEL_REVISION}
        arguments: dict[str, str] = table.get("args", {})
        kept["args"] = {
            key: value for key, value in arguments.items() if key != "CACHE_ID" and not key.startswith(REBUILD_PREFIX)
        }
        kept["contexts"] = {
            name: _content(root, context)
            for name, context in table.get("contexts", {}).items()
            if name != BASE_SETTINGS
        }
        found.update(json.dumps(kept, sort_keys=True).encode())
        dockerfile = root / str(table.get("dockerfile", ""))
        if dockerfile.is_file():
            text = stages_text(dockerfile.read_text(encoding="utf-8"), str(table.get("target", "")), arguments)
            found.update(text.encode())
            taken.update(path for name in project_sources(text) for path in _files(root, name))
    for path in sorted(taken):
        found.update(f"{path.relative_to(root)}\0{_file_content(path)}\n".encode(errors="surrogateescape"))
    return f"sha256:{found.hexdigest()}"


def stages_text(dockerfile: str, target: str, arguments: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return what is before the first FROM, and the stages that *target* is made of; all of it if there is no such.

    A stage that is named by way of an argument (FROM x-${NAME}) is the one that *arguments*, or its default, says.
    """
    head, *parts = re.split(r"(?im)^(?=FROM\s)", dockerfile)
    values = {**dict(re.findall(r"(?im)^ARG\s+(\w+)=(\S*)", head)), **arguments}
    named = {match[1]: part for part in parts if (match := re.match(r"(?i)FROM\s.*\sAS\s+(\S+)", part))}
    wanted = [target]
    for stage in wanted:  # grows while it is walked
        text = re.sub(r"\$\{(\w+)\}", lambda match: values.get(match[1], ""), named.get(stage, ""))
        sources = re.findall(r"(?im)^FROM\s+(?:--\S+\s+)*(\S+)|\bfrom=([^\s,]+)", text)
        wanted += [one for pair in sources for one in pair if one in named and one not in wanted]
    return head + "".join(part for name, part in named.items() if name in wanted) if target in named else dockerfile


def only_builds(dockerfile: str, target: str) -> bool:
    """Say whether every command of the stages that *target* is made of runs on the builder, none on the target."""
    stages = re.split(r"(?im)^(?=FROM\s)", stages_text(dockerfile, target))[1:]
    return all("${BUILDER_PLATFORM}" in stage.splitlines()[0] for stage in stages if re.search(r"(?m)^RUN\s", stage))


def project_sources(dockerfile: str) -> list[str]:
    """Return what a Dockerfile's bind mounts, COPYs and ADDs take from the project itself: paths and patterns.

    A script sees nothing but what is mounted next to it, so these are all the files that decide what a stage does.
    """
    lines = [line for line in dockerfile.splitlines() if not line.lstrip().startswith("#")]
    instructions = re.sub(r"\\\s*\n", " ", "\n".join(lines)).splitlines()
    found: list[str] = []
    for instruction in instructions:
        word, _, rest = instruction.strip().partition(" ")
        if word.upper() == "RUN":
            mounts = (dict(_pairs(options)) for options in re.findall(r"--mount=(\S+)", rest))
            own = (mount for mount in mounts if mount.get("type", "bind") == "bind" and "from" not in mount)
            found += [mount.get("source") or mount.get("src") or "." for mount in own]
        elif word.upper() in {"COPY", "ADD"} and not re.search(r"--from=", rest):
            words = re.sub(r"--\S+\s+", "", rest).strip()
            names = json.loads(words) if words.startswith("[") else words.split()
            found += [name for name in names[:-1] if "://" not in name and not name.startswith("<<")]
    return list(dict.fromkeys(found))


def _pairs(options: str) -> Iterator[tuple[str, str]]:
    """Yield the options of a mount: 'type=bind,source=x,readonly'."""
    for option in options.split(","):
        key, _, value = option.partition("=")
        yield key.lower(), value


def _files(root: Path, pattern: str) -> Iterator[Path]:
    """Yield the files that *pattern* names below *root*, those in folders too."""
    name = pattern.strip("/")
    for path in [root / name] if (root / name).exists() else root.glob(name or "*"):
        yield from (each for each in (path.rglob("*") if path.is_dir() else [path]) if _counts(each))


def _counts(path: Path) -> bool:
    """Say whether *path* is a file that a build sees: not bytecode that Python left in the project."""
    return path.is_file() and "__pycache__" not in path.parts


def newest_rebuild(content: Mapping[str, Any], node: Node) -> str:
    """Return the newest run that was to build again a stage of which *node* is made; '' for none."""
    arguments = content["target"][node.target].get("args", {})
    runs = (value for key, value in arguments.items() if key.startswith(REBUILD_PREFIX))
    return max(runs, key=order, default="")


def _content(root: Path, context: str) -> str:
    """Return what identifies the content of a build context, which is *context* itself where it is not a folder."""
    folder = root / context
    if ":" in context or _is_download(folder):
        return context
    found = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_symlink() or path.is_file()):
        found.update(f"{path.relative_to(folder)}\0{_file_content(path)}\n".encode(errors="surrogateescape"))
    return f"sha256:{found.hexdigest()}"


def _is_download(folder: Path) -> bool:
    """Return whether *folder* is named for the checksum of the one file that it holds, or will hold."""
    return folder.parent.name == DOWNLOADS and re.fullmatch(r"[0-9a-f]{64}", folder.name) is not None


def _file_content(path: Path) -> str:
    """Return what git keeps of a file: where a link points to; otherwise the content, and whether it can be run."""
    if path.is_symlink():
        return f"link {path.readlink()}"
    known = path.stat()
    runs = "x" if known.st_mode & stat.S_IXUSR else "-"
    return f"{runs} {_checksum(path, (known.st_ino, known.st_size, known.st_mtime_ns))}"


@cache
def _checksum(path: Path, _stamp: tuple[int, int, int]) -> str:
    """Return the file's checksum, computed once as long as its *_stamp* stays the same: wheels have gigabytes."""
    return digest(path)


def _linked(targets: Mapping[str, Any], target: str) -> set[str]:
    found = {target}
    for name, context in targets[target].get("contexts", {}).items():
        if context.startswith("target:") and name != BASE_SETTINGS:
            found |= _linked(targets, context.removeprefix("target:"))
    return found
