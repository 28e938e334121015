"""An engine and a bake that are not there, for tests of what is built around them.

`FakeDocker` stands for docker-py's client and for its ``api`` alike. It keeps images in memory and notes every call.
`opened` wraps it in the Engine that the code under test gets. `FakeBake` stands for ``buildx.run``: it reads the
definition that was written, hands on an event stream (made up, or recorded in tests/data/events), writes what the
definition exports, and puts images into the FakeDocker.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from docker.errors import APIError, ImageNotFound, NotFound

from jetpare.build import bake
from jetpare.engine.containers import FIND_BEGINS
from jetpare.engine.model import Engine
from jetpare.events.progress import Usual
from jetpare.project.plan import Plan

EVENTS = Path(__file__).parent / "data" / "events"
REMOTE = "tcp://fake:2375"  # an engine on another machine: no power mode, no sensors and no disk of this one
CHUNK = 4096


def digest(text: str) -> str:
    """Return what looks like an image's id, the same for the same *text*."""
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


# --- the engine


@dataclass(frozen=True, kw_only=True)
class FakeImage:
    """An image in a FakeDocker. ``layers``: the size of each by its diff id, oldest first."""

    id: str
    names: tuple[str, ...] = ()
    layers: Mapping[str, int] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)

    def listed(self) -> dict[str, Any]:
        """Return the entry of it in /images/json."""
        return {"Id": self.id, "RepoTags": list(self.names) or None, "Labels": dict(self.labels) or None}


class FakeDocker:
    """An engine that holds images, and says what `calls` were made. Set ``faults[method]`` to make one raise."""

    def __init__(self, *, arch: str = "amd64", store: str = "overlay2", root: str = "/nowhere/docker") -> None:
        self.api = self
        self.timeout: float = 60
        self.base_url, self.api_version = "http+docker://localhost", "1.45"
        self.arch, self.store, self.root = arch, store, root
        self.held: dict[str, FakeImage] = {}
        self.in_use: set[str] = set()  # ids of images that a container uses
        self.build_cache: list[dict[str, Any]] = []
        self.runtimes: dict[str, Any] = {"runc": {}}
        self.merged = 140  # bytes, as an image's own find tells them
        self.faults: dict[str, BaseException] = {}
        self.calls: list[tuple[Any, ...]] = []
        self.closed = 0
        self._numbers = itertools.count(1)

    def add(
        self,
        image_id: str,
        *names: str,
        layers: Mapping[str, int] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> FakeImage:
        """Put an image into the engine; its names are taken from others."""
        made = FakeImage(id=image_id, layers=layers or {digest(f"layer of {image_id}"): 100}, labels=labels or {})
        self.held[image_id] = made
        for name in names:
            self._name(image_id, name)
        return self.held[image_id]

    def named(self, reference: str) -> str | None:
        """Return the id of the image *reference*; None where there is none."""
        return next((each.id for each in self.held.values() if reference in (each.id, *each.names)), None)

    def made(self, method: str) -> list[tuple[Any, ...]]:
        """Return the arguments of every call of *method*."""
        return [words for name, *words in self.calls if name == method]  # type: ignore[misc]

    def _name(self, image_id: str, name: str) -> None:
        for each in list(self.held.values()):
            self.held[each.id] = replace(each, names=tuple(one for one in each.names if one != name))
        self.held[image_id] = replace(self.held[image_id], names=(*self.held[image_id].names, name))

    def _find(self, reference: str) -> FakeImage:
        identity = self.named(reference)
        if identity is None:
            raise ImageNotFound(f"No such image: {reference}")
        return self.held[identity]

    def _note(self, method: str, *words: Any) -> None:
        self.calls.append((method, *words))
        if method in self.faults:
            raise self.faults[method]

    # --- the client

    def close(self) -> None:
        self.closed += 1

    def ping(self) -> bool:
        self._note("ping")
        return True

    def info(self) -> dict[str, Any]:
        self._note("info")
        status = [["driver-type", "io.containerd.snapshotter.v1"]] if self.store == "containerd" else []
        return {
            "ServerVersion": "26.1.5",
            "Driver": self.store,
            "DriverStatus": status,
            "DockerRootDir": self.root,
            "NCPU": 2,
            "MemTotal": 8 << 30,
            "Runtimes": self.runtimes,
        }

    def version(self) -> dict[str, Any]:
        self._note("version")
        return {"Version": "26.1.5", "ApiVersion": self.api_version, "Os": "linux", "Arch": self.arch}

    def df(self) -> dict[str, Any]:
        self._note("df")
        layers = {name: size for each in self.held.values() for name, size in each.layers.items()}
        return {"LayersSize": sum(layers.values()), "BuildCache": self.build_cache}

    # --- the api: images

    def inspect_image(self, reference: str) -> dict[str, Any]:
        self._note("inspect_image", reference)
        found = self._find(reference)
        return {
            "Id": found.id,
            "RepoTags": list(found.names),
            "Os": "linux",
            "Architecture": self.arch,
            "Size": sum(found.layers.values()),
            "RootFS": {"Layers": list(found.layers)},
            "Config": {"Labels": dict(found.labels)},
        }

    def history(self, reference: str) -> list[dict[str, Any]]:
        self._note("history", reference)
        return [{"CreatedBy": "RUN x", "Size": size} for size in reversed([*self._find(reference).layers.values()])]

    def images(self, *, filters: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
        self._note("images", filters)
        key, _, value = (filters or {}).get("label", "").partition("=")
        return [each.listed() for each in self.held.values() if not key or each.labels.get(key) == value]

    def tag(self, image: str, repository: str, tag: str) -> bool:
        self._note("tag", image, repository, tag)
        self._name(self._find(image).id, f"{repository}:{tag}")
        return True

    def remove_image(self, reference: str) -> None:
        self._note("remove_image", reference)
        found = self._find(reference)
        if reference == found.id and len(found.names) > 1:
            raise APIError(f"conflict: unable to delete {reference}: it is referenced by several names")
        if found.id in self.in_use and len(found.names) < 2:
            raise APIError(f"conflict: unable to remove {reference}: a container uses it")
        rest = tuple(name for name in found.names if name != reference)
        if reference == found.id or not rest:
            del self.held[found.id]
        else:
            self.held[found.id] = replace(found, names=rest)

    def prune_builds(self, **words: Any) -> dict[str, Any]:
        self._note("prune_builds", words)
        wanted = (words.get("filters") or {}).get("id")
        gone = [each for each in self.build_cache if wanted is None or each.get("ID") in wanted]
        self.build_cache = [each for each in self.build_cache if each not in gone]
        return {"SpaceReclaimed": sum(int(each.get("Size") or 0) for each in gone)}

    def inspect_distribution(self, reference: str) -> dict[str, Any]:
        self._note("inspect_distribution", reference)
        return {}

    # --- the api: containers, as `containers.merged_bytes` uses them

    def containers(self, **_: Any) -> list[dict[str, Any]]:
        return []

    def create_host_config(self, **words: Any) -> dict[str, Any]:
        return words

    def create_container(self, image: str, **words: Any) -> dict[str, str]:
        self._note("create_container", image, words["name"])
        return {"Id": words["name"]}

    def start(self, container: str) -> None:
        self._note("start", container)

    def wait(self, container: str, **_: Any) -> dict[str, int]:
        self._note("wait", container)
        return {"StatusCode": 0}

    def logs(self, container: str, **_: Any) -> bytes:
        self._note("logs", container)
        return FIND_BEGINS + f"\n1:1 {self.merged}\n".encode()

    def remove_container(self, container: str, **_: Any) -> None:
        self._note("remove_container", container)
        if "create_container" in self.faults:
            raise NotFound(container)


def opened(docker: FakeDocker, *, host: str = REMOTE, private: bool = False, **env: str) -> Engine:
    """Return *docker* as an opened engine."""
    connector: Callable[[Engine], Any] = lambda _: docker  # noqa: E731
    return Engine(docker="docker", env=env, overrides={}, private=private, host=host, connector=connector)


# --- bake


@dataclass(kw_only=True)
class Baked:
    """What a FakeBake does for one target.

    ``stream`` is the name of a recorded stream, '' for one that is made up or, if any, ``data``. ``raises`` is raised
    when that was handed on. ``files``: what the stage brings out, by name, as JSON.
    """

    status: int = 0
    stream: str = ""
    data: bytes = b""
    cached: bool = False
    raises: BaseException | None = None
    files: Mapping[str, Any] = field(default_factory=dict)
    image_id: str = ""


class FakeBake:
    """What ``buildx.run`` does where there is no engine. Set ``outcomes[target]`` for what is not to succeed."""

    def __init__(self, docker: FakeDocker) -> None:
        self.docker = docker
        self.outcomes: dict[str, Baked] = {}
        self.calls: list[tuple[str, ...]] = []
        self.definitions: list[dict[str, Any]] = []
        self.environments: list[Mapping[str, str]] = []
        self.secrets: list[dict[str, bytes]] = []  # the files of the build secrets at each call
        self.before: Callable[[tuple[str, ...]], None] = lambda _: None

    def passing(self, plan: Plan) -> None:
        """Let the checks of every image of *plan* pass, with the versions that it expects."""
        for node in plan.nodes:
            if node.name == plan.images[node.group].final if node.group in plan.images else False:
                report = {
                    "versions": dict(plan.profile.expect),
                    "checks": [{"name": "demo", "status": "ok", "detail": ""}],
                }
                self.outcomes[bake.report_target(node)] = Baked(files={"checks.json": report})

    def __call__(
        self,
        argv: list[str],
        *,
        root: Path,
        env: Mapping[str, str],
        metadata: Path,
        on_chunk: Callable[[bytes], None],
    ) -> tuple[int, dict[str, Any]]:
        file = root / argv[argv.index("--file") + 1]
        targets = tuple(argv[argv.index("--provenance=false") + 1 :])
        definition = json.loads(file.read_text())
        self.calls.append(targets)
        self.environments.append(env)
        self.definitions.append(definition)
        folder = file.parent / "secrets"
        self.secrets.append({each.name: each.read_bytes() for each in folder.iterdir()} if folder.is_dir() else {})
        self.before(targets)
        status, found = 0, {}
        outcomes = {target: self.outcomes.get(target, Baked()) for target in targets}
        for target, outcome in outcomes.items():
            table = definition["target"][target]
            for chunk in self._stream(target, str(table.get("target", "")), outcome, alone=len(targets) == 1):
                on_chunk(chunk)
            if outcome.raises is not None:
                raise outcome.raises
            status = status or outcome.status
        for target, outcome in outcomes.items() if status == 0 else ():
            found[target] = self._export(target, definition["target"][target], outcome, root)
        if found:
            metadata.write_text(json.dumps(found))
        return status, found

    def _stream(self, target: str, stage: str, outcome: Baked, *, alone: bool) -> Iterator[bytes]:
        if outcome.stream:
            data = (EVENTS / f"{outcome.stream}.jsonl").read_bytes()
        elif outcome.data:
            data = outcome.data
        else:
            place = f"{stage.removesuffix('-report')} 1/1"
            name = f"[{place}] RUN x" if alone else f"[{target} {place}] RUN x"
            data = "".join(json.dumps(each) + "\n" for each in vertex(name, cached=outcome.cached)).encode()
        yield from (data[start : start + CHUNK] for start in range(0, len(data), CHUNK))

    def _export(self, target: str, table: Mapping[str, Any], outcome: Baked, root: Path) -> dict[str, str]:
        kind, _, rest = table["output"][0].partition(",")
        if kind == "type=local":
            folder = root / rest.removeprefix("dest=")
            folder.mkdir(parents=True)
            for name, content in outcome.files.items():
                (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
            return {}
        if kind != "type=docker":
            return {}
        text = json.dumps({key: value for key, value in table.items() if key != "output"}, sort_keys=True)
        image_id = outcome.image_id or digest(f"{target} {text}")
        names = [rest.removeprefix("name=")] if rest else []
        known = self.docker.held.get(image_id)
        self.docker.add(image_id, *(known.names if known else ()), *names, labels=table.get("labels"))
        return {"containerimage.digest": image_id, "containerimage.config.digest": image_id}


def vertex(name: str, *, seconds: float = 2.0, cached: bool = False) -> list[dict[str, Any]]:
    """Return the events of one step that ran, or that was found in the cache."""
    begin = datetime(2026, 1, 1, tzinfo=timezone.utc)
    started = {"digest": digest(name), "name": name, "started": begin.isoformat()}
    ended = {**started, "completed": (begin + timedelta(seconds=seconds)).isoformat(), "cached": cached}
    return [{"vertexes": [started]}, {"vertexes": [ended]}]


# --- the screen


class Silent:
    """A progress view that keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.commands: list[str] = []
        self.finished: dict[str, tuple[str, str]] = {}
        self.rows: tuple[str, ...] = ()

    def __enter__(self) -> Silent:  # noqa: PYI034 - typing.Self needs Python 3.11
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def plan(self, rows: Sequence[str], usual: Usual = Usual()) -> None:  # noqa: ARG002, B008
        self.rows = tuple(rows)

    def begin(self, label: str) -> None:
        pass

    def update(self, label: str, recorder: Any) -> None:
        pass

    def transfer(self, label: str, done: int, total: int | None) -> None:
        pass

    def finish(self, label: str, status: str, detail: str) -> None:
        self.finished[label] = (status, detail)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def echo(self, line: str) -> None:
        self.commands.append(line)
