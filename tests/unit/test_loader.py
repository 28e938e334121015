from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetpare.image.inventory import Elf, File, Inventory, Settings
from jetpare.image.loader import Loader, Process
from tests.inventories import elf, image

LD = "/lib64/ld-linux-x86-64.so.2"
MULTIARCH = "/usr/lib/x86_64-linux-gnu"


def start(inventory: Inventory, path: str, **options: object) -> Process:
    secure = options.pop("secure", None)
    assert secure is None or isinstance(secure, bool)
    return Loader(inventory, **options).start(inventory.elf_by_path[path], secure=secure)  # type: ignore[arg-type]


def loaded(process: Process) -> list[str]:
    return [f"{each.found} {each.rule}" for each in process.objects[1:]]


def debian(*elfs: Elf, **more: object) -> Inventory:
    return image({MULTIARCH: File(path=MULTIARCH, kind="dir"), "/lib": "-> usr/lib"}, elfs=elfs, **more)


def test_the_cache_comes_before_the_default_folders() -> None:
    libraries = (elf("/opt/d/liba.so.1"), elf(f"{MULTIARCH}/liba.so.1"), elf(f"{MULTIARCH}/libb.so.1"))
    cache = (("liba.so.1", "/opt/d/liba.so.1"),)
    inventory = debian(elf("/bin/x", needed=("liba.so.1", "libb.so.1")), *libraries, loader_cache=cache)
    assert loaded(start(inventory, "/bin/x")) == ["/opt/d/liba.so.1 cache", "/lib/x86_64-linux-gnu/libb.so.1 default"]


def test_only_the_first_entry_of_the_cache_for_this_machine_is_tried() -> None:
    foreign = elf("/opt/arm/liba.so.1", machine="aarch64")
    cache = tuple(("liba.so.1", f"/opt/{name}/liba.so.1") for name in ("arm", "gone", "d"))
    inventory = debian(elf("/bin/x", needed=("liba.so.1",)), foreign, elf("/opt/d/liba.so.1"), loader_cache=cache)
    assert loaded(start(inventory, "/bin/x")) == []


def test_entries_of_the_cache_for_other_processors_are_passed_over() -> None:
    fast = "/usr/lib/glibc-hwcaps/x86-64-v3/liba.so.1"
    cache = (("liba.so.1", fast), ("liba.so.1", "/opt/liba.so.1"))
    inventory = debian(elf("/bin/x", needed=("liba.so.1",)), elf(fast), elf("/opt/liba.so.1"), loader_cache=cache)
    assert loaded(start(inventory, "/bin/x")) == ["/opt/liba.so.1 cache"]


@pytest.mark.parametrize(
    ("folder", "platform", "machine", "default"),
    [
        (MULTIARCH, "linux/amd64", "x86_64", (f"/lib/x86_64-linux-gnu {MULTIARCH} /lib /usr/lib")),
        (
            "/usr/lib/aarch64-linux-gnu",
            "linux/arm64/v8",
            "aarch64",
            "/lib/aarch64-linux-gnu /usr/lib/aarch64-linux-gnu /lib /usr/lib",
        ),
        ("/usr/lib64", "linux/amd64", "x86_64", "/lib64 /usr/lib64"),
    ],
)
def test_the_default_folders_are_those_of_the_images_distribution(
    folder: str, platform: str, machine: str, default: str
) -> None:
    program = elf("/bin/x", machine=machine, needed=("liba.so",), runpath=("/opt/$LIB",))
    inventory = image({folder: File(path=folder, kind="dir")}, elfs=[program], platform=platform)
    loader = Loader(inventory)
    assert " ".join(loader.search.default) == default
    process = loader.start(program)
    searched = loader.searched(process, process.root, "liba.so")
    assert searched == (f"/opt/{loader.search.lib}", "/etc/ld.so.cache", *loader.search.default)


@pytest.mark.parametrize(
    ("runpath", "found"),
    [
        ("$ORIGIN/../lib/private", True),  # below a folder of the system
        ("$ORIGIN/../../opt", False),
        ("/usr/$ORIGIN", False),  # not at the beginning
        ("/opt", True),
    ],
)
def test_a_setuid_program_takes_origin_only_below_the_systems_folders(runpath: str, *, found: bool) -> None:
    places = ("/usr/lib/private/liba.so", "/opt/liba.so", "/usr/usr/bin/liba.so")
    program = elf("/usr/bin/x", interpreter=LD, needed=("liba.so",), runpath=(runpath,))
    setuid = {"/usr/bin/x": File(path="/usr/bin/x", kind="file", mode=0o4755, size=99)}
    inventory = image(
        {MULTIARCH: File(path=MULTIARCH, kind="dir"), **setuid}, elfs=[program, *(elf(path) for path in places)]
    )
    assert bool(loaded(start(inventory, "/usr/bin/x"))) is found
    assert loaded(start(inventory, "/usr/bin/x", secure=False))


def test_a_setuid_program_ignores_the_environment() -> None:
    program = elf("/usr/bin/x", interpreter=LD, needed=("liba.so",))
    setuid = {"/usr/bin/x": File(path="/usr/bin/x", kind="file", mode=0o6755, size=99)}
    env = {"LD_LIBRARY_PATH": "/opt", "LD_PRELOAD": "/opt/libp.so"}
    inventory = image(setuid, elfs=[program, elf("/opt/liba.so"), elf("/opt/libp.so")])
    assert loaded(start(inventory, "/usr/bin/x", env=env)) == []
    assert loaded(start(inventory, "/usr/bin/x", env=env, secure=False)) == [
        "/opt/libp.so path",
        "/opt/liba.so LD_LIBRARY_PATH",
    ]


def test_the_images_own_environment_counts_unless_another_is_given() -> None:
    settings = Settings(env={"LD_LIBRARY_PATH": "/opt"})
    inventory = image({}, elfs=[elf("/bin/x", needed=("liba.so",)), elf("/opt/liba.so")], settings=settings)
    assert loaded(start(inventory, "/bin/x")) == ["/opt/liba.so LD_LIBRARY_PATH"]
    assert loaded(start(inventory, "/bin/x", env={})) == []


def test_etc_ld_so_preload_counts_for_setuid_programs_too() -> None:
    inventory = image({}, elfs=[elf("/bin/x"), elf("/opt/p.so")], texts={"/etc/ld.so.preload": "/opt/p.so\n"})
    assert loaded(start(inventory, "/bin/x", secure=True)) == ["/opt/p.so path"]


def test_the_loader_is_in_the_process_by_its_name_and_its_soname() -> None:
    program = elf("/bin/x", soname=None, interpreter=LD, needed=("ld-linux-x86-64.so.2", "liba.so"), runpath=("/opt",))
    real = f"{MULTIARCH}/ld-linux-x86-64.so.2"
    inventory = image({LD: f"-> ..{real}"}, elfs=[program, elf(real), elf("/opt/liba.so", needed=(LD,))])
    process = start(inventory, "/bin/x")
    assert [need.object and need.object.elf.path for need in process.needs] == [real, "/opt/liba.so", real]
    assert loaded(process) == ["/opt/liba.so runpath"]


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (elf("/x.o", type="rel"), "of type rel: nothing that is loaded"),
        (elf("/x.so", machine="i686", bits=32), "for i686, 32 bits"),
        (elf("/x.so", bits=32), "for x86_64, 32 bits"),
        (elf("/x", interpreter="/lib/ld-musl-x86_64.so.1"), "for another loader: /lib/ld-musl-x86_64.so.1"),
        (elf("/x.so", needed=("libc.musl-x86_64.so.1",)), "for another C library: libc.musl-x86_64.so.1"),
        (elf("/x", interpreter=LD), None),
    ],
)
def test_what_is_not_this_loaders(made: Elf, why: str | None) -> None:
    assert Loader(image({}, elfs=[made])).why_not(made) == why


def test_an_image_for_a_platform_without_rules() -> None:
    inventory = image({}, elfs=[elf("/x.so")], platform="linux/riscv64")
    loader = Loader(inventory)
    assert loader.why_not(inventory.elfs[0]) == "for x86_64, 64 bits"
    assert any("no rules for this platform" in note for note in loader.notes())


def test_links_in_circles_and_folders_of_that_name_lead_nowhere() -> None:
    entries: dict[str, int | str | File] = {"/opt/liba.so": "-> libb.so", "/opt/libb.so": "-> liba.so"}
    entries["/opt/libd.so"] = File(path="/opt/libd.so", kind="dir")
    inventory = image(entries, elfs=[elf("/bin/x", needed=("liba.so", "libd.so"), runpath=("/opt",))])
    process = start(inventory, "/bin/x")
    assert [need.wrong for need in process.needs] == [None, ("/opt/libd.so", "cannot read file data")]


def test_an_image_made_to_take_for_ever_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jetpare.image.loader._NEEDS", 1000)
    names = [f"lib{number}.so" for number in range(60)]
    inventory = image({}, elfs=[elf(f"/usr/lib64/{name}", needed=tuple(names)) for name in names])
    loader = Loader(inventory)
    processes = [loader.start(each) for each in inventory.elfs]
    assert sum(len(process.needs) for process in processes) <= 1000 + 60 * 61
    assert all(len(process.needs) >= 60 for process in processes)
    assert any("of the later files only their own" in note for note in loader.notes())


FOLDERS = ("/a", "/b", "/c", "/opt/d", MULTIARCH, "/usr/lib")
folders = st.lists(st.sampled_from(FOLDERS), max_size=3, unique=True).map(tuple)


@given(rpath=folders, runpath=folders, path=folders, good=st.sets(st.sampled_from(FOLDERS)), data=st.data())
def test_the_first_folder_that_has_a_loadable_file_is_taken(
    rpath: tuple[str, ...], runpath: tuple[str, ...], path: tuple[str, ...], good: set[str], data: st.DataObject
) -> None:
    foreign = data.draw(st.sets(st.sampled_from(FOLDERS))) - good
    program = elf("/bin/x", needed=("liba.so",), rpath=rpath, runpath=runpath)
    libraries = [elf(f"{folder}/liba.so") for folder in good]
    libraries += [elf(f"{folder}/liba.so", machine="aarch64") for folder in foreign]
    env = {"LD_LIBRARY_PATH": ":".join(path)}
    inventory = image({MULTIARCH: File(path=MULTIARCH, kind="dir")}, elfs=[program, *libraries])
    process = start(inventory, "/bin/x", env=env)
    order = [*(rpath if not runpath else ()), *path, *runpath, MULTIARCH, "/usr/lib"]
    expected = next((f"{folder}/liba.so" for folder in order if folder in good), None)
    assert [each.found for each in process.objects[1:]] == ([expected] if expected else [])


names = st.sampled_from([f"lib{letter}.so" for letter in "abcdef"])


@given(needs=st.dictionaries(names, st.lists(names, max_size=4, unique=True), max_size=6))
def test_every_process_ends_and_holds_each_file_once(needs: dict[str, list[str]]) -> None:
    elfs = [elf(f"/usr/lib/{name}", needed=tuple(needed)) for name, needed in needs.items()]
    inventory = image({MULTIARCH: File(path=MULTIARCH, kind="dir")}, elfs=elfs)
    for each in elfs:
        process = start(inventory, each.path)
        paths = [loaded.elf.path for loaded in process.objects]
        assert len(paths) == len(set(paths))
        assert len(process.needs) == sum(len(loaded.elf.needed) for loaded in process.objects)
        assert all((need.object is not None) == (need.name in needs) for need in process.needs)
