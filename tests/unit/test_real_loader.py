"""The model of the loader against this machine's own, on libraries that a compiler makes for each of its rules."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from jetpare.image.collector import elf, main, tree
from jetpare.image.inventory import Elf, File, Inventory, Settings
from jetpare.image.loader import Loader
from tests.real_loader import LIST, Listing, ask, listed, modelled, split

LD = {"x86_64": "/lib64/ld-linux-x86-64.so.2", "aarch64": "/lib/ld-linux-aarch64.so.1"}.get(platform.machine(), "")
OTHER_MACHINE = {"x86_64": 183, "aarch64": 62}  # e_machine of the other
pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(not (shutil.which("gcc") and LD and os.path.exists(LD)), reason="needs gcc and glibc"),  # noqa: PTH110
]


class Scene:
    """A folder of libraries that link to each other, and what both loaders make of one of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()

    def library(self, name: str, *needed: str, soname: str = "", rpath: str = "", runpath: str = "") -> Path:
        """Make *name*, which needs *needed*: names as they are to stand in it."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        stubs = [self._stub(each) for each in needed]
        tags = "--enable-new-dtags" if runpath else "--disable-new-dtags"
        place = (runpath or rpath).replace("@", str(self.folder))
        options = [tags, *([f"-rpath={place}"] if place else []), *([f"-soname={soname}"] if soname else [])]
        self._gcc(path, *(f"-Wl,{each}" for each in ("--no-as-needed", *options)), *stubs)
        return path

    def versioned(self, name: str, *versions: str, needed: Path | None = None) -> Path:
        """Make *name*, which defines *versions*, or wants the last of those that *needed* defines."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        script = self.folder / "versions"
        script.write_text("".join(f"{each} {{ global: f{each}; }};\n" for each in versions if not needed))
        code = "".join(
            f"extern int f{each}(void); int use{each}(void) {{ return f{each}(); }}\n"
            if needed
            else f"int f{each}(void) {{ return 0; }}\n"
            for each in versions
        )
        options = [str(needed)] if needed else [f"-Wl,--version-script={script}"]
        self._gcc(path, *options, f"-Wl,-soname={path.name}", code=code)
        return path

    def _stub(self, name: str) -> str:
        folder = self.folder.parent / "stubs"
        folder.mkdir(exist_ok=True)
        path = folder / f"{abs(hash(name))}.so"
        self._gcc(path, f"-Wl,-soname={name.replace('@', str(self.folder))}")
        return str(path)

    def _gcc(self, path: Path, *options: str, code: str = "") -> None:
        words = ["gcc", "-shared", "-fPIC", "-nostdlib", "-o", str(path), "-x", "c", "-", "-x", "none", *options]
        done = subprocess.run(words, input=code, text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr

    def inventory(self, env: Mapping[str, str]) -> Inventory:
        """Of the folder, under its own path, and of the system's folders, which are empty."""
        root = str(self.folder)
        scanned = tree.scan(root, [])
        first = tree.first_names(scanned)
        rows = [main._file_row(entry, first, {}) for entry in scanned if entry.path != "/"]
        columns = ("path", "kind", "size", "mode", "uid", "gid", "target", "hardlink", "digest")
        files = [File(**dict(zip(columns, row, strict=True))) for row in rows]
        files = [
            structs.replace(each, path=root + each.path, hardlink=each.hardlink and root + each.hardlink)
            for each in files
        ]
        parents = [str(each) for each in (self.folder, *self.folder.parents)]
        system = [
            path for path in (f"/usr/lib/{platform.machine()}-linux-gnu", "/usr/lib", "/usr") if Path(path).is_dir()
        ]
        files += [File(path=path, kind="dir") for path in {*parents, *system}]
        return Inventory(
            image_id="",
            platform={"x86_64": "linux/amd64", "aarch64": "linux/arm64"}[platform.machine()],
            how="stream",
            settings=Settings(env=env, workdir=root),
            layers=(),
            files=tuple(sorted(files, key=lambda each: each.path)),
            elfs=tuple(self._elfs(file for file in files if file.kind == "file" and file.hardlink is None)),
        )

    def _elfs(self, files: Iterator[File]) -> Iterator[Elf]:
        for file in files:
            data = Path(file.path).read_bytes()
            if data[:4] == b"\x7fELF":
                with Path(file.path).open("rb") as opened:
                    found = elf.read_elf(opened)
                frozen: dict[str, Any] = {
                    key: tuple(value) if isinstance(value, list) else value for key, value in found.items()
                }
                yield Elf(path=file.path, **frozen)

    def both(self, root: Path, **env: str) -> tuple[list[str], list[str]]:
        """What is loaded, each as 'name by rule'; and what is not found. Both loaders have to agree on all of it."""
        inventory = self.inventory(env)
        wanted = replace(inventory, elfs=tuple(elf for elf in inventory.elfs if elf.path == str(root)))
        said = dict(split(ask(["/bin/sh", "-c", LIST, "sh", LD], wanted, env, cwd=str(self.folder))))
        real = self.absolute(listed(said[str(root)]))
        model = self.absolute(modelled(Loader(inventory), inventory.elf_by_path[str(root)]))
        if model.refused:
            assert model.refused in real.refused
            return [], [model.refused]
        assert real == model
        return [f"{Path(path).relative_to(self.folder)} {rule}" for _, _, rule, path in real.loaded], list(real.absent)

    def absolute(self, listing: Listing) -> Listing:
        """ld.so names what lies below the working directory, which is the folder, without it."""
        loaded = tuple(
            (str(self.folder / user), str(self.folder / name) if "/" in name else name, rule, str(self.folder / path))
            for user, name, rule, path in listing.loaded
        )
        return replace(listing, loaded=loaded)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    folder = tmp_path / "scene"
    folder.mkdir()
    return Scene(folder)


def test_rpath_is_inherited_from_whoever_loads(scene: Scene) -> None:
    root = scene.library("root.so", "libx.so", rpath="@/d")
    scene.library("d/libx.so", "liby.so")
    scene.library("d/liby.so")
    assert scene.both(root) == (["d/libx.so rpath", "d/liby.so rpath"], [])


def test_runpath_is_not_inherited(scene: Scene) -> None:
    root = scene.library("root.so", "libx.so", runpath="@/d")
    scene.library("d/libx.so", "liby.so")
    scene.library("d/liby.so")
    assert scene.both(root) == (["d/libx.so runpath"], ["liby.so"])


def test_a_runpath_ends_the_loaders_rpath(scene: Scene) -> None:
    root = scene.library("root.so", "libx.so", rpath="@/d")
    scene.library("d/libx.so", "liby.so", runpath="@/e")
    scene.library("d/liby.so")
    assert scene.both(root) == (["d/libx.so rpath"], ["liby.so"])


def test_origin_is_the_folder_of_the_link_that_was_found(scene: Scene) -> None:
    root = scene.library("root.so", "libx.so", runpath="$ORIGIN/d")
    scene.library("real/libx.so", "liby.so", runpath="${ORIGIN}")
    (scene.folder / "d").mkdir()
    (scene.folder / "d/libx.so").symlink_to("../real/libx.so")
    scene.library("real/liby.so", soname="liby.so")
    assert scene.both(root) == (["d/libx.so runpath"], ["liby.so"])
    scene.library("d/liby.so", soname="liby.so")
    assert scene.both(root) == (["d/libx.so runpath", "d/liby.so runpath"], [])


def test_origin_of_the_first_file_and_parent_folders(scene: Scene) -> None:
    root = scene.library("lib/root.so", "libx.so", runpath="$ORIGIN/../other//")
    scene.library("other/libx.so", "liby.so", runpath="$ORIGIN/")
    scene.library("other/liby.so")
    assert scene.both(root) == (["lib/../other/libx.so runpath", "lib/../other/liby.so runpath"], [])


def test_a_token_is_a_whole_word(scene: Scene) -> None:
    root = scene.library("root.so", "libx.so", runpath="$ORIGINS:@/$PLATFORM:@/${LIB}")
    scene.library("$ORIGINS/libx.so")
    scene.library(f"{platform.machine()}/libx.so")
    assert scene.both(root) == (["$ORIGINS/libx.so runpath"], [])
    shutil.rmtree(scene.folder / "$ORIGINS")
    loaded, absent = scene.both(root)
    assert (len(loaded), absent) == (1, [])


def test_a_soname_that_is_loaded_already_is_not_searched(scene: Scene) -> None:
    root = scene.library("root.so", "libx.so", "libz.so.9", runpath="@/d")
    scene.library("d/libx.so", soname="libz.so.9")
    assert scene.both(root) == (["d/libx.so runpath"], [])


def test_the_first_files_own_soname_counts(scene: Scene) -> None:
    root = scene.library("root.so", "libx.so", soname="libroot.so", runpath="@/d")
    scene.library("d/libx.so", "libroot.so")
    assert scene.both(root) == (["d/libx.so runpath"], [])


def test_two_names_of_one_file_are_one_object(scene: Scene) -> None:
    root = scene.library("root.so", "libx.so", "libhard.so", "liblink.so", runpath="@/d")
    made = scene.library("d/libx.so")
    (scene.folder / "d/libhard.so").hardlink_to(made)
    (scene.folder / "d/liblink.so").symlink_to("libx.so")
    assert scene.both(root) == (["d/libx.so runpath"], [])


def test_the_root_is_loaded_again_under_another_name(scene: Scene) -> None:
    root = scene.library("root.so", "libx.so", runpath="@/d")
    scene.library("d/libx.so", "root.so", runpath="@")
    assert scene.both(root) == (["d/libx.so runpath", "root.so runpath"], [])


def test_a_library_for_another_machine_is_passed_over(scene: Scene) -> None:
    root = scene.library("root.so", "libx.so", runpath="@/d:@/e")
    foreign = scene.library("d/libx.so")
    data = bytearray(foreign.read_bytes())
    data[18:20] = OTHER_MACHINE[platform.machine()].to_bytes(2, "little")
    foreign.write_bytes(data)
    scene.library("e/libx.so")
    assert scene.both(root) == (["e/libx.so runpath"], [])


@pytest.mark.parametrize(("text", "why"), [("", "file too short"), ("GROUP ( libx.so.1 )" * 9, "invalid ELF header")])
def test_what_is_no_elf_file_stops_the_loader(scene: Scene, text: str, why: str) -> None:
    root = scene.library("root.so", "libx.so", runpath="@/d:@/e")
    (scene.folder / "d").mkdir()
    (scene.folder / "d/libx.so").write_text(text)
    scene.library("e/libx.so")
    assert scene.both(root) == ([], [why])


def test_a_folder_of_that_name_stops_the_loader(scene: Scene) -> None:
    root = scene.library("root.so", "libx.so", runpath="@/d")
    (scene.folder / "d/libx.so").mkdir(parents=True)
    assert scene.both(root) == ([], ["cannot read file data"])


def test_a_name_with_a_slash_is_a_path(scene: Scene) -> None:
    root = scene.library("root.so", "@/d/libx.so", "d/liby.so", "@/d/none.so", runpath="@/e")
    scene.library("d/libx.so")
    scene.library("d/liby.so")
    assert scene.both(root) == (["d/libx.so path", "d/liby.so path"], [str(scene.folder / "d/none.so")])


def test_tokens_in_a_name(scene: Scene) -> None:
    root = scene.library("root.so", "$ORIGIN/d/libx.so")
    scene.library("d/libx.so")
    assert scene.both(root) == (["d/libx.so path"], [])


def test_a_name_that_is_not_found_is_searched_again(scene: Scene) -> None:
    root = scene.library("root.so", "libnone.so", "libx.so", rpath="@/d")
    scene.library("d/libx.so", "libnone.so", runpath="@/e")
    scene.library("d/e/libnone.so")
    assert scene.both(root) == (["d/libx.so rpath"], ["libnone.so", "libnone.so"])


@pytest.mark.parametrize(("tag", "rule"), [("rpath", "d/libx.so rpath"), ("runpath", "e/libx.so LD_LIBRARY_PATH")])
def test_the_environments_folders_come_after_rpath_and_before_runpath(scene: Scene, tag: str, rule: str) -> None:
    root = scene.library("root.so", "libx.so", **{tag: "@/d"})
    scene.library("d/libx.so")
    scene.library("e/libx.so")
    env = f"/nowhere;{scene.folder}/e:"
    assert scene.both(root, LD_LIBRARY_PATH=env) == ([rule], [])


def test_an_empty_folder_is_the_working_directory(scene: Scene) -> None:
    root = scene.library("d/root.so", "libx.so")
    scene.library("libx.so")
    assert scene.both(root, LD_LIBRARY_PATH="/nowhere:") == (["libx.so LD_LIBRARY_PATH"], [])


def test_preloaded_libraries_answer_for_their_names(scene: Scene) -> None:
    root = scene.library("root.so", "libz.so.9", runpath="@/d")
    early = scene.library("early.so", soname="libz.so.9")
    scene.library("d/libz.so.9")
    assert scene.both(root, LD_PRELOAD=f"{early} libnone.so") == (["early.so path"], [])


def test_versions_that_a_library_does_not_define(scene: Scene) -> None:
    new = scene.versioned("new/libv.so", "V1", "V2")
    user = scene.versioned("root.so", "V1", "V2", needed=new)
    scene.versioned("old/libv.so", "V1")
    for folder, unmet in (("new", set()), ("old", {("V2", str(user))})):
        env = {"LD_LIBRARY_PATH": str(scene.folder / folder)}
        assert scene.both(user, **env) == ([f"{folder}/libv.so LD_LIBRARY_PATH"], [])
        inventory = scene.inventory(env)
        assert modelled(Loader(inventory), inventory.elf_by_path[str(user)]).versions == unmet
