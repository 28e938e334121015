from __future__ import annotations

import io
import json
import os
import signal
import tarfile
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import requests
from docker.errors import APIError

from jetpare.base import process
from jetpare.base.errors import ConfigError, EngineError, ToolError
from jetpare.engine import api, containers, discovery, folders, image_store, model, private
from jetpare.engine.containers import FIND_SECONDS
from jetpare.engine.folders import EngineFolders, cli_config
from jetpare.engine.model import Endpoint, Engine, ImageFacts, LayerFacts
from tests.fakes import FakeDocker, digest, opened

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Shaped like what Docker 26.1.5 said of one Dockerfile on the overlay2 store (first size) and the containerd store
# (second). The containerd sizes, the base's overlay2 size and both totals are as seen there; the overlay2 sizes of the
# two RUN steps were seen only rounded (32.6 MB, 145 MB) and are chosen to add up. Commands are shortened.
HISTORY = [
    ("LABEL x=y", 0, 0),
    ("WORKDIR /", 0, 0),
    ("RUN /bin/sh -c cp -a /usr/bin /srv/copy # buildkit", 32_576_168, 33_062_912),
    ("WORKDIR /srv", 0, 4096),
    ("RUN /bin/sh -c apt-get update # buildkit", 144_926_200, 146_010_112),
    ("ENV A=1", 0, 0),
    ("", 125_399_276, 139_591_680),
]
LAYER_IDS = ("sha256:aaa", "sha256:bbb", "sha256:ccc", "sha256:ddd")


def history(*, column: int) -> list[dict[str, Any]]:
    return [{"CreatedBy": row[0], "Size": row[column]} for row in HISTORY]


def facts_of(name: str, layers: tuple[tuple[str, int], ...] | None, ids: tuple[str, ...] = ()) -> ImageFacts:
    return ImageFacts(
        reference=name, id=name, created=None, platform="linux/amd64", labels={}, env={}, repo_digests=(),
        store="overlay2", layer_ids=ids or tuple(one for one, _ in layers or ()),
        layers=None if layers is None else tuple(LayerFacts(diff_id=one, size=size) for one, size in layers),
        layers_bytes=None, engine_bytes=None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("26.1.5+dfsg1", "26.1.5+dfsg1"),
        ("v0.13.1", "0.13.1"),
        ("0.13.1+ds1", "0.13.1+ds1"),
        ("24.0.7-0ubuntu2~22.04.1", "24.0.7"),
        ("0.14.1-desktop.1", "0.14.1"),
        ("28.0.0-rc.1", "28.0.0rc1"),
        ("dev", None),
        ("", None),
    ],
)
def test_versions_as_distributions_write_them(text: str, expected: str | None) -> None:
    found = api.parse_version(text)
    assert (None if found is None else str(found)) == expected


def test_store_is_told_by_driver_status() -> None:
    overlay2 = {"Driver": "overlay2", "DriverStatus": [["Backing Filesystem", "extfs"]]}
    containerd = {"Driver": "overlayfs", "DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]]}
    assert api.store_of(overlay2) == "overlay2"
    assert api.store_of(containerd) == "containerd"
    assert api.store_of({"Driver": "btrfs", "DriverStatus": None}) == "btrfs"
    assert api.store_of({}) == ""


@pytest.mark.parametrize("column", [1, 2])
def test_layers_are_paired_on_both_stores(column: int) -> None:
    layers = image_store.pair_layers(LAYER_IDS, history(column=column))
    assert layers is not None
    assert [layer.diff_id for layer in layers] == list(LAYER_IDS)
    assert [layer.size for layer in layers] == [HISTORY[row][column] for row in (6, 4, 3, 2)]


def test_an_imported_image_has_one_layer() -> None:
    assert image_store.pair_layers(["sha256:a"], [{"Size": 5, "Comment": "Imported from -"}]) == (
        LayerFacts(diff_id="sha256:a", size=5),
    )


def test_the_classic_builders_history_is_read_too() -> None:
    entries = [
        {"CreatedBy": '/bin/sh -c #(nop)  CMD ["bash"]', "Size": 0},
        {"CreatedBy": "/bin/sh -c #(nop) COPY file:1 in / ", "Size": 0},
        {"CreatedBy": "/bin/sh -c #(nop) ADD file:2 in / ", "Size": 9},
    ]
    layers = image_store.pair_layers(["sha256:a", "sha256:b"], entries)
    assert layers == (LayerFacts(diff_id="sha256:a", size=9), LayerFacts(diff_id="sha256:b", size=0))


def test_an_uncertain_pairing_is_none_not_a_guess() -> None:
    entries = [
        {"CreatedBy": "WORKDIR /twice", "Size": 0},
        {"CreatedBy": "COPY empty /", "Size": 0},
        {"CreatedBy": "RUN x", "Size": 3},
    ]
    assert image_store.pair_layers(["sha256:a", "sha256:b"], entries) is None


def test_image_facts_survive_an_engine_that_leaves_empty_fields_out() -> None:
    found = image_store.image_facts("x", {"Id": "sha256:1"}, [], store="overlay2")
    assert (found.layer_count, found.layers_bytes, found.engine_bytes, found.created) == (0, None, None, None)
    assert (found.platform, found.labels, found.env, found.repo_digests) == ("", {}, {}, ())


def test_sizes_have_their_meaning_by_store() -> None:
    image = {
        "Id": "sha256:1", "Size": 302_901_644, "RootFS": {"Layers": list(LAYER_IDS)}, "Os": "linux",
        "Architecture": "arm64", "Variant": "v8", "Created": "0001-01-01T00:00:00Z",
        "Config": {"Env": ["A=1", "B=x=y", "C"], "Labels": None},
    }  # fmt: skip
    overlay2 = image_store.image_facts("x", image, history(column=1), store="overlay2")
    containerd = image_store.image_facts("x", {**image, "Size": 104_220_729}, history(column=2), store="containerd")
    assert (overlay2.layers_bytes, overlay2.engine_bytes, overlay2.layers_exact) == (302_901_644, 302_901_644, True)
    assert (containerd.layers_bytes, containerd.engine_bytes) == (318_668_800, 104_220_729)
    assert not containerd.layers_exact
    assert overlay2.platform == "linux/arm64/v8"
    assert overlay2.created is None
    assert overlay2.env == {"A": "1", "B": "x=y", "C": ""}


class Asked:
    """An engine that has every image, and notes what it was asked for."""

    def __init__(self) -> None:
        self.api = self
        self.references: list[str] = []

    def inspect_image(self, reference: str) -> dict[str, Any]:
        self.references.append(reference)
        return {"Id": "sha256:a"}


@pytest.mark.parametrize(
    "reference", ["", "../containers/abc", "a/../b", "/a", "a b", "A/b", "a?x=1", "a\n", "a@sha256:1"]
)
def test_what_is_no_reference_is_not_asked_for(reference: str) -> None:
    docker: Any = Asked()
    with pytest.raises(ConfigError, match="not a valid image reference"):
        image_store.inspected(docker, reference)
    assert docker.references == []


@pytest.mark.parametrize(
    "reference",
    ["debian:12", "localhost:5000/a/b:T-1", "0123456789ab", "sha256:" + "0" * 64, "debian:12@sha256:" + "0" * 64],
)
def test_names_ids_and_digests_are_asked_for(reference: str) -> None:
    docker: Any = Asked()
    assert image_store.inspected(docker, reference) == {"Id": "sha256:a"}
    assert docker.references == [reference]


@pytest.mark.parametrize(
    ("said", "total"),
    [
        (b"begin\n8:1 5\n8:2 7\n8:1 5\n", 12),
        (b"begin\n", 0),
        (b"8:2 7\n8:1 5\n", None),  # the engine has dropped the beginning of a log that is too long
        (b"", None),
        (b"begin\n8:1 5\nliar -5 x\n", None),
        (b"begin\n8:1 -5\n", None),
        (b"begin\n8:1 x\n", None),
        (b"begin\n8:1 " + b"9" * 5000, None),
        (b"begin\n\xff", None),
    ],
)
def test_what_an_images_find_says_is_believed_only_where_it_is_sizes(said: bytes, total: int | None) -> None:
    assert containers.sum_of_find(said) == total


class Measured:
    """A docker client for `merged_bytes`: an image whose find says *said*, and whose export is *export*."""

    def __init__(self, said: bytes | Exception, export: bytes) -> None:
        self.said, self.exported = said, export
        self.created: dict[str, Any] = {}
        self.api = self

    def create_host_config(self, **settings: Any) -> dict[str, Any]:
        return settings

    def containers(self, **_: Any) -> list[Any]:
        return []

    def create_container(self, *_: Any, **settings: Any) -> None:
        self.created = settings

    def remove_container(self, *_: Any, **__: Any) -> None:
        pass

    def start(self, _: str) -> None:
        pass

    def wait(self, _: str, timeout: int) -> dict[str, int]:
        assert timeout <= FIND_SECONDS
        if isinstance(self.said, Exception):
            raise self.said
        return {"StatusCode": 0}

    def logs(self, *_: Any, **__: Any) -> bytes:
        assert isinstance(self.said, bytes)
        return self.said

    def export(self, _: str, chunk_size: int) -> Iterator[bytes]:
        return iter([self.exported[start : start + chunk_size] for start in range(0, len(self.exported), chunk_size)])


def archive(*sizes: int) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for number, size in enumerate(sizes):
            member = tarfile.TarInfo(str(number))
            member.size = size
            tar.addfile(member, io.BytesIO(bytes(size)))
    return made.getvalue()


def merged(monkeypatch: pytest.MonkeyPatch, docker: Measured) -> int:
    @contextmanager
    def client(*_: object, **__: object) -> Iterator[Measured]:
        yield docker

    monkeypatch.setattr(api, "client", client)
    return containers.merged_bytes(Engine(docker="docker", env={}, overrides={}, private=False), "sha256:a")


def test_what_an_images_find_says_is_kept_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    docker = Measured(b"begin\n8:1 5\n", b"")
    assert merged(monkeypatch, docker) == 5
    assert int(docker.created["host_config"]["log_config"]["Config"]["max-size"].removesuffix("m")) <= 100


@pytest.mark.parametrize("said", [b"8:1 5\n", requests.exceptions.ReadTimeout()])
def test_an_image_whose_find_says_too_much_or_never_ends_is_measured_by_its_export(
    monkeypatch: pytest.MonkeyPatch, said: bytes | Exception
) -> None:
    assert merged(monkeypatch, Measured(said, archive(3, 4))) == 7


@pytest.mark.parametrize("export", [b"", b"no archive" * 100, archive(3000, 4)[:2000]])
def test_an_export_that_is_no_whole_archive_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch, export: bytes) -> None:
    with pytest.raises(EngineError, match=r"^sha256:a: what `docker export` gives is not a whole archive"):
        merged(monkeypatch, Measured(b"", export))


def test_chunks_are_read_as_one_file() -> None:
    data = bytes(range(256)) * 5
    reader = containers.ChunkReader(iter([data[:7], data[7:300], data[300:]]))
    out = io.BytesIO()
    while part := reader.read(64):
        out.write(part)
    assert out.getvalue() == data


def fake_cli(tmp_path: Path) -> str:
    """A folder for PATH in which a docker is found; running it is process.run's business, which is faked."""
    (tmp_path / "docker").touch(mode=0o755)
    return str(tmp_path)


def test_docker_host_that_does_not_answer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "has_buildx", lambda *_: True)
    environ = {"PATH": fake_cli(tmp_path), "DOCKER_HOST": f"unix://{tmp_path}/none.sock"}
    with pytest.raises(EngineError, match=r"DOCKER_HOST=unix://.*/none\.sock: the engine does not answer") as caught:
        discovery.find(state=tmp_path, environ=environ)
    assert "no such file" in str(caught.value)


def test_a_context_is_read_from_the_cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = [{"Endpoints": {"docker": {"Host": "tcp://jetson:2375"}}, "TLSMaterial": {}}]
    monkeypatch.setattr(process, "run", lambda *_a, **_k: json.dumps(said))
    assert api.endpoint({"PATH": fake_cli(tmp_path)}).host == "tcp://jetson:2375"
    said[0]["Endpoints"]["docker"]["Host"] = "ssh://jetson"
    with pytest.raises(EngineError, match="not supported yet"):
        api.endpoint({"PATH": fake_cli(tmp_path)})


@pytest.mark.parametrize(
    "said",
    [
        "",
        "{",
        "[]",
        "[3]",
        '[{"Endpoints": ["docker"]}]',
        '[{"Endpoints": {"docker": {"Host": 3}}}]',
        '[{"Endpoints": {"docker": {"Host": "tcp://jetson:2376"}}, "TLSMaterial": {"docker": ["ca.pem"]}}]',
    ],
)
def test_a_context_of_another_form_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setattr(process, "run", lambda *_a, **_k: said)
    with pytest.raises(EngineError, match="`docker context use`"):
        api.endpoint({"PATH": fake_cli(tmp_path)})


def test_the_context_is_asked_for_once_and_its_address_pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    current = ["tcp://first:2375"]
    asked: list[object] = []

    def run(argv: list[str], **_: object) -> str:
        asked.append(argv)
        return json.dumps([{"Endpoints": {"docker": {"Host": current[0]}}, "TLSMaterial": {}}])

    reached: list[str] = []

    def connect(self: Engine) -> FakeDocker:
        reached.append(self.host)
        return FakeDocker()

    monkeypatch.setattr(process, "run", run)
    monkeypatch.setattr(Engine, "connection", property(connect))
    environ = {"PATH": fake_cli(tmp_path), "DOCKER_CONTEXT": "mine", "DOCKER_TLS_VERIFY": "1", "HOME": "/h"}
    found = discovery.find(state=tmp_path, environ=environ)
    current[0] = "tcp://second:2375"  # `docker context use` elsewhere
    image_store.inspect_image(found, "debian:12")
    assert set(reached) == {"tcp://first:2375"}
    assert len(asked) == 1
    assert found.env == {"PATH": environ["PATH"], "HOME": "/h", "DOCKER_HOST": "tcp://first:2375"}
    assert found.overrides == {"DOCKER_HOST": "tcp://first:2375"}


@pytest.mark.parametrize(("unverified", "switch"), [(False, "DOCKER_TLS_VERIFY"), (True, "DOCKER_TLS")])
def test_the_cli_gets_the_tls_files_of_the_context(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unverified: bool, switch: str
) -> None:
    files = tmp_path / "tls" / "docker"
    files.mkdir(parents=True)
    for name in ("ca.pem", "cert.pem", "key.pem"):
        (files / name).touch()
    said = {
        "Endpoints": {"docker": {"Host": "tcp://jetson:2376", "SkipTLSVerify": unverified}},
        "TLSMaterial": {"docker": ["ca.pem", "cert.pem", "key.pem"]},
        "Storage": {"TLSPath": str(tmp_path / "tls")},
    }
    monkeypatch.setattr(process, "run", lambda *_a, **_k: json.dumps([said]))
    found = api.endpoint({"PATH": fake_cli(tmp_path)})
    assert found.tls is not None
    assert found.tls.verify is not unverified
    assert dict(found.variables) == {"DOCKER_HOST": "tcp://jetson:2376", "DOCKER_CERT_PATH": str(files), switch: "1"}


def test_one_client_is_opened_at_the_first_call_and_closed_at_the_end() -> None:
    docker = FakeDocker()
    with opened(docker) as running:
        assert docker.closed == 0
        for seconds in (3.0, 4.0):
            with api.client(running, timeout=seconds) as first, api.client(running) as second:
                assert first is second is docker  # type: ignore[comparison-overlap]
            assert docker.timeout == 60
        with api.client(running, timeout=5.0) as held:
            assert held.api.timeout == 5.0
    assert docker.closed == 1
    running.close()
    assert docker.closed == 1


def test_an_engine_that_was_never_called_needs_no_closing() -> None:
    docker = FakeDocker()
    with opened(docker):
        pass
    assert docker.closed == 0


def test_an_export_that_is_no_archive_is_an_error_of_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    docker = FakeDocker()
    docker.faults["start"] = APIError("no such program")
    monkeypatch.setattr(docker, "export", lambda *_a, **_k: iter([b"no archive" * 100]), raising=False)
    with pytest.raises(EngineError, match="not a whole archive"):
        containers.merged_bytes(opened(docker), digest("x"))


@pytest.mark.parametrize("host", ["tcp://::", "tcp://h:99999999", "http://["])
def test_a_docker_host_that_is_no_address_is_an_error_that_names_it(host: str, tmp_path: Path) -> None:
    with pytest.raises(EngineError) as caught:
        discovery.find(state=tmp_path, environ={"PATH": fake_cli(tmp_path), "DOCKER_HOST": host})
    assert host in str(caught.value)


def test_an_ssh_engine_is_refused_with_the_way_round(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="not supported yet") as caught:
        discovery.find(state=tmp_path, environ={"PATH": fake_cli(tmp_path), "DOCKER_HOST": "ssh://me@jetson:22"})
    assert "`ssh -nNT -L /tmp/docker.sock:/var/run/docker.sock me@jetson` and set DOCKER_HOST=" in str(caught.value)


def test_an_unknown_context_is_an_error_not_the_default_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_a: object, **_k: object) -> str:
        raise ToolError('context "nope": context not found')

    monkeypatch.setattr(process, "run", refuse)
    with pytest.raises(EngineError, match="nope"):
        api.endpoint({"PATH": fake_cli(tmp_path), "DOCKER_CONTEXT": "nope"})


def make_root(state: Path) -> folders.EngineFolders:
    folders = EngineFolders.of(state)
    for name in ("usr/bin/docker", "usr/libexec/docker/cli-plugins/docker-buildx"):
        target = folders.rootfs / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch(mode=0o755)
    return folders


def test_a_cli_without_buildx_borrows_it_from_the_private_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = make_root(tmp_path / "state")
    own = tmp_path / "own"
    own.mkdir()
    (own / "config.json").write_text("{}")
    monkeypatch.setattr(api, "has_buildx", lambda *_: False)
    environ = {"PATH": fake_cli(tmp_path), "DOCKER_CONFIG": str(own)}
    found = discovery.with_tools(at=Endpoint(host="unix:///x"), state=tmp_path / "state", environ=environ)
    assert found.docker == str(tmp_path / "docker")
    assert found.overrides == {"DOCKER_CONFIG": str(folders.home / "config")}
    assert found.env == {**environ, **found.overrides}
    assert (folders.home / "config/config.json").resolve() == own / "config.json"
    assert (folders.home / "config/cli-plugins/docker-buildx").exists()


def test_logins_that_are_gone_leave_no_dangling_link(tmp_path: Path) -> None:
    folders = make_root(tmp_path / "state")
    own = tmp_path / "own"
    own.mkdir()
    (own / "config.json").write_text("{}")
    environ = {"DOCKER_CONFIG": str(own)}
    cli_config(state=tmp_path / "state", environ=environ)
    (own / "config.json").unlink()
    cli_config(state=tmp_path / "state", environ=environ)
    assert [entry.name for entry in (folders.home / "config").iterdir()] == ["cli-plugins"]


def test_without_any_docker_the_advice_is_engine_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "DEFAULT_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(EngineError, match="invoke engine-up"):
        discovery.find(state=tmp_path, environ={"PATH": str(tmp_path)})


def test_a_free_subnet_avoids_every_route() -> None:
    header = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n"
    row = "eth0\t{}\t00000000\t0001\t0\t0\t0\t{}\n"
    free = private.free_subnet(header + row.format("00000000", "00000000"), seed="x")
    assert free.startswith("10.")
    assert free.endswith(".1/24")
    _, second, third, _ = free.split(".")
    taken = row.format(f"00{int(third):02X}{int(second):02X}0A", "00FFFFFF")
    assert private.free_subnet(header + taken, seed="x") != free
    with pytest.raises(EngineError, match="subnet"):
        private.free_subnet(header + row.format("0000000A", "000000FF"), seed="x")


def test_a_deep_project_folder_has_a_short_socket(tmp_path: Path) -> None:
    folders = EngineFolders.of(tmp_path / ("deep" * 50))
    assert len(str(folders.socket)) < 100
    assert len(folders.bridge) <= 15
    assert folders != EngineFolders.of(tmp_path)


def test_os_release_is_read() -> None:
    text = '# c\nID=debian\nVERSION_CODENAME=bookworm\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n'
    assert private.os_release(text) == {
        "ID": "debian",
        "VERSION_CODENAME": "bookworm",
        "PRETTY_NAME": "Debian GNU/Linux 12 (bookworm)",
    }


def mountinfo(*points: bytes) -> bytes:
    """What the kernel writes: blanks, tabs, line feeds and backslashes in octal, everything else as it is."""
    return b"".join(b"36 35 98:0 / " + point + b" rw,noatime master:1 - ext3 /dev/root rw\n" for point in points)


@pytest.mark.parametrize(
    "name", ["plain", "größe", "日本", "with blank", "back\\slash", "tab\there", "line\nfeed", "\udcff"]
)
def test_a_folder_with_a_mount_below_it_is_not_removed(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name / "engine"
    (folder / "data").mkdir(parents=True)
    escaped = os.fsencode(folder / "data").replace(b"\\", b"\\134")
    for byte in (b" ", b"\t", b"\n"):
        escaped = escaped.replace(byte, b"\\%03o" % byte[0])
    listing = tmp_path / "mountinfo"
    listing.write_bytes(mountinfo(b"/", b"/proc", escaped))
    with pytest.raises(EngineError, match="is mounted there"):
        private.remove_tree(folder, mountinfo=listing)
    assert folder.exists()
    listing.write_bytes(mountinfo(b"/", b"/proc", escaped + b"2"))  # of a neighbour
    private.remove_tree(folder / "data", mountinfo=listing)
    assert not (folder / "data").exists()


def test_a_signal_goes_only_to_the_process_that_was_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, _: sent.append(pid))
    own = os.getpid()
    private.send({own: gone()}, signal.SIGTERM)  # its number is another's by now
    assert sent == []
    private.send(private.identities([own, 2**22 + 1]), signal.SIGTERM)
    assert sent == [own]


def gone() -> str:
    """What a process was called that has ended, and whose number another one may have by now."""
    *rest, started = containers.process_name(os.getpid()).split()
    return " ".join([*rest, str(int(started) - 1)])


@pytest.mark.processes
def test_an_orphan_is_what_a_process_of_this_machine_left_that_is_gone() -> None:
    own = containers.process_name(os.getpid())
    boot, namespace, _, started = own.split()
    with process.start(["sleep", "44"]) as child:
        theirs = containers.process_name(child.pid)
        assert not containers.is_orphan(theirs)
    assert containers.is_orphan(theirs)
    assert containers.is_orphan(gone())
    for other in (own, f"other {namespace} {child.pid} {started}", f"{boot} 1 {child.pid} {started}", "", "a b c d"):
        assert not containers.is_orphan(other)
    assert not containers.is_orphan(f"{boot} {namespace} x {started}")


def test_only_containers_of_ours_are_removed_as_orphans() -> None:
    removed: list[str] = []
    listed = [
        {"Id": "measure", "Names": ["/jetpare-measure-1"], "Labels": {containers.OWNER: gone()}},
        {"Id": "verify", "Names": ["/jetpare-verify-1"], "Labels": {containers.OWNER: gone()}},
        {"Id": "alive", "Names": ["/jetpare-verify-2"], "Labels": containers.owner_label()},
        {"Id": "from a copied image", "Names": ["/website"], "Labels": {containers.OWNER: gone()}},
        {"Id": "nameless", "Names": None, "Labels": {containers.OWNER: gone()}},
    ]
    docker: Any = SimpleNamespace(
        api=SimpleNamespace(
            containers=lambda **_: listed, remove_container=lambda container, **_: removed.append(container)
        )
    )
    containers.remove_orphans(docker)
    assert removed == ["measure", "verify"]
