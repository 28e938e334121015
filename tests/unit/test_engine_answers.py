"""What an engine, its CLI and its API answer, and what is made of it."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker.errors import APIError, DockerException
from packaging.version import Version

from jetpare.base.errors import EngineError
from jetpare.engine import api, containers, discovery, disk, folders, image_store
from jetpare.engine.folders import EngineFolders
from jetpare.engine.model import ImageFacts
from tests.fakes import FakeDocker, digest, opened


@pytest.mark.processes
@pytest.mark.parametrize(
    ("says", "version"),
    [
        ("echo github.com/docker/buildx v0.13.1 788433953af1", Version("0.13.1")),
        ("echo github.com/docker/buildx 0.12.1+ds1-1", Version("0.12.1+ds1.1")),
        ("echo buildx", None),
        ("echo docker: 'buildx' is not a docker command >&2; exit 1", None),
    ],
)
def test_the_version_of_buildx_is_read_from_the_cli(tmp_path: Path, says: str, version: Version | None) -> None:
    docker = tmp_path / "docker"
    docker.write_text(f"#!/bin/sh\n{says}\n")
    docker.chmod(0o755)
    assert api.buildx_version(str(docker), {}) == version
    assert api.has_buildx(str(docker), {}) is (version is not None)


@pytest.mark.processes
def test_a_shell_is_run_in_a_container_that_goes_and_its_status_comes_back(tmp_path: Path) -> None:
    docker = tmp_path / "docker"
    docker.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{tmp_path}/ran\nexit 7\n')
    docker.chmod(0o755)
    engine = discovery.with_tools(
        at=api.endpoint({"DOCKER_HOST": "tcp://fake:2375"}),
        state=tmp_path,
        environ={"PATH": f"{tmp_path}:/usr/bin:/bin"},
    )
    assert containers.run_shell(engine, "demo:1", ["/bin/sh", "-c", "exit 7"]) == 7
    words = (tmp_path / "ran").read_text().split("\n")
    assert {"run", "--rm"} <= set(words)
    assert words[-5:] == ["demo:1", "/bin/sh", "-c", "exit 7", ""]
    assert "--tty" not in words, "nobody is at a terminal here"


def test_without_a_cli_the_default_socket_is_meant(tmp_path: Path) -> None:
    found = api.endpoint({"PATH": str(tmp_path)})
    assert found.host.startswith("unix://")
    assert dict(found.variables) == {"DOCKER_HOST": found.host}


def test_tls_files_that_are_not_there_are_an_error_of_the_engine(tmp_path: Path) -> None:
    environ = {"DOCKER_HOST": "tcp://x:2376", "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(tmp_path)}
    with pytest.raises(EngineError, match="TLS"):
        api.endpoint(environ)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (APIError("x", explanation="no space left on device"), "no space left on device"),
        (DockerException("Error while fetching server API version"), "Error while fetching"),
    ],
)
def test_what_the_engine_refuses_names_the_engine_and_the_reason(error: Exception, says: str) -> None:
    docker = FakeDocker()
    docker.faults["ping"] = error
    engine = opened(docker, host="tcp://jetson:2375")
    assert says in api.not_answering(engine)
    assert "tcp://jetson:2375" in api.not_answering(engine)


def test_the_systems_own_reason_is_found_below_others() -> None:
    docker = FakeDocker()
    wrapped = DockerException("Error while fetching server API version")
    wrapped.__cause__ = ConnectionRefusedError(111, "Connection refused")
    docker.faults["ping"] = wrapped
    assert api.not_answering(opened(docker)).endswith(": connection refused")


def test_a_gpu_runtime_is_among_the_runtimes() -> None:
    docker = FakeDocker()
    docker.runtimes = {"runc": {}, "nvidia": {"path": "nvidia-container-runtime"}}
    assert api.runtimes(opened(docker)) == ("nvidia", "runc")


# --- images


def archive(names: dict[str, bytes]) -> Iterator[bytes]:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as made:
        for name, content in names.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            made.addfile(member, io.BytesIO(content))
        made.addfile(tarfile.TarInfo("empty folder"))
    data = out.getvalue()
    yield from (data[start : start + 1000] for start in range(0, len(data), 1000))


class Saving(FakeDocker):
    """An engine that saves every image as the same archive."""

    def get_image(self, reference: str, chunk_size: int) -> Iterator[bytes]:
        self._note("get_image", reference, chunk_size)
        return archive({"manifest.json": b"[]", "blob": b"x" * 5000})


def test_an_image_is_read_member_by_member() -> None:
    docker = Saving()
    found = {member.name: content.read() for member, content in containers.saved(opened(docker), "demo") if content}
    assert found == {"manifest.json": b"[]", "blob": b"x" * 5000, "empty folder": b""}
    docker.faults["get_image"] = APIError("no such image")
    with pytest.raises(EngineError, match="no such image"):
        next(containers.saved(opened(docker), "demo"))


def facts(**words: Any) -> ImageFacts:
    made = ImageFacts(
        reference="demo", id=digest("demo"), created=None, platform="linux/arm64/v8", labels={}, env={},
        repo_digests=(), store="containerd", layer_ids=("a",), layers=None, layers_bytes=None, engine_bytes=700,
    )  # fmt: skip
    return ImageFacts(**{**vars(made), **words})


class Listing(FakeDocker):
    """An engine that lists manifests, as moby does from API 1.47 on."""

    def __init__(self, version: str, listed: list[dict[str, Any]]) -> None:
        super().__init__(store="containerd")
        self.api_version, self.listed = version, listed

    def get(self, url: str, params: dict[str, str]) -> Any:
        assert url.endswith(f"/v{self.api_version}/images/json")
        assert params == {"manifests": "true"}
        return self

    def raise_for_status(self) -> None:
        pass

    def json(self) -> list[dict[str, Any]]:
        return self.listed


def manifest(architecture: str, content: int, *, available: bool = True, kind: str = "image") -> dict[str, Any]:
    platform = {"os": "linux", "architecture": architecture}
    return {
        "Kind": kind,
        "Available": available,
        "ImageData": {"Platform": platform},
        "Size": {"Content": content, "Total": 10 * content},
    }


@pytest.mark.parametrize(
    ("manifests", "size"),
    [
        ([manifest("amd64", 1), manifest("arm64", 500)], 500),
        ([manifest("arm64", 500, available=False)], None),
        ([manifest("arm64", 3, kind="attestation")], None),
        ([], None),
    ],
)
def test_the_bytes_to_push_are_those_of_the_images_own_platform(
    manifests: list[dict[str, Any]], size: int | None
) -> None:
    docker = Listing("1.47", [{"Id": "another", "Manifests": [manifest("arm64", 9)]}, {"Id": digest("demo")}])
    docker.listed[1]["Manifests"] = manifests
    assert image_store.content_bytes(opened(docker), facts()) == size


def test_an_older_engine_says_them_as_the_images_size() -> None:
    assert image_store.content_bytes(opened(Listing("1.46", [])), facts()) == 700


@pytest.mark.parametrize(
    ("history", "size"),
    [
        ([{"Size": 10}, {"Size": 20}, {"Size": 30}], 60),
        ([{"Size": 0}, {"Size": 0}], None),
        ([{"Size": 7, "CreatedBy": "RUN x"}], 7),
    ],
)
def test_layers_that_cannot_be_told_apart_are_added_up(history: list[dict[str, Any]], size: int | None) -> None:
    image = {"Id": "x", "Size": 999, "RootFS": {"Layers": ["one"]}}
    assert image_store.image_facts("x", image, history, store="containerd").layers_bytes == size


def test_a_name_goes_to_the_newer_image_and_is_removed_once() -> None:
    docker = FakeDocker()
    engine = opened(docker)
    for name in ("old", "new"):
        docker.add(digest(name))
        image_store.tag_image(engine, digest(name), "registry:5000/demo")
    assert docker.named("registry:5000/demo:latest") == digest("new")
    assert docker.held[digest("old")].names == ()
    assert image_store.remove_image(engine, "registry:5000/demo:latest")
    assert not image_store.remove_image(engine, "registry:5000/demo:latest")
    assert image_store.inspect_image(engine, digest("new")) is None


def test_the_registrys_reason_does_not_repeat_the_engines_address() -> None:
    docker = FakeDocker()
    assert image_store.registry_trouble(opened(docker), "debian") == ""
    docker.faults["inspect_distribution"] = APIError("x", explanation="unauthorized")
    assert image_store.registry_trouble(opened(docker), "debian") == "unauthorized"


# --- the disk, and the private root


@pytest.fixture(autouse=True)
def _buildx(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking for the version of buildx starts a process."""
    if not request.node.get_closest_marker("processes"):
        monkeypatch.setattr(api, "buildx_version", lambda *_: None)


def test_data_is_looked_for_where_the_engine_says_and_where_a_private_one_has_it(tmp_path: Path) -> None:
    docker = FakeDocker(root="/var/lib/docker")
    assert disk.data_roots(opened(docker), tmp_path) == (Path("/var/lib/docker"), EngineFolders.of(tmp_path).data)


def test_a_folder_that_may_not_be_entered_has_no_free_bytes(tmp_path: Path) -> None:
    docker = FakeDocker(root=str(tmp_path / "nothing here"))
    engine = opened(docker, host="unix:///var/run/docker.sock")
    assert disk.free_bytes(engine, api.facts(engine), tmp_path) is None


def test_without_a_private_root_there_is_no_configuration_for_its_cli(tmp_path: Path) -> None:
    assert folders.tools(state=tmp_path) is None
    with pytest.raises(EngineError, match="invoke engine-up"):
        folders.cli_config(state=tmp_path, environ={})
