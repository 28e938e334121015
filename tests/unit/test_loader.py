from __future__ import annotations

import itertools
import posixpath

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


def needs(process: Process) -> list[tuple[str, str | None, str | None]]:
    return [(need.name, need.object.found if need.object else None, need.rule) for need in process.needs]


def test_an_rpath_is_inherited_along_the_chain_of_loaders() -> None:
    program = elf("/bin/x", needed=("liba.so", "libd.so"), rpath=("/opt/a",))
    chain = (
        elf("/opt/a/liba.so", needed=("libb.so",), rpath=("/opt/b",)),
        elf("/opt/b/libb.so", needed=("libc.so", "libe.so")),
        elf("/opt/b/libc.so"),
        elf("/opt/b/libd.so"),  # /opt/b is not the program's: only what liba.so loads looks there
        elf("/opt/a/libe.so"),
    )
    process = start(image({}, elfs=[program, *chain]), "/bin/x")
    assert loaded(process) == [
        "/opt/a/liba.so rpath", "/opt/b/libb.so rpath", "/opt/b/libc.so rpath", "/opt/a/libe.so rpath",
    ]  # fmt: skip
    assert needs(process)[1] == ("libd.so", None, None)


def test_an_rpath_next_to_a_runpath_counts_for_nobody() -> None:
    program = elf("/bin/x", needed=("liba.so",), rpath=("/opt/a",))
    library = elf("/opt/a/liba.so", needed=("libb.so",), rpath=("/opt/b",), runpath=("/opt/r",))
    libraries = (library, elf("/opt/r/libb.so", needed=("libc.so",)), elf("/opt/b/libc.so"))
    process = start(image({}, elfs=[program, *libraries]), "/bin/x")
    assert loaded(process) == ["/opt/a/liba.so rpath", "/opt/r/libb.so runpath"]


def test_a_process_tells_who_asked_first_for_each_object_and_by_which_name() -> None:
    program = elf("/bin/x", needed=("liba.so", "libb.so"), runpath=("/opt",))
    libraries = (elf("/opt/liba.so", needed=("libb.so",), runpath=("/opt",)), elf("/opt/libb.so", needed=("liba.so",)))
    process = start(image({}, elfs=[program, *libraries]), "/bin/x")
    assert [(each.name, each.parent and each.parent.found) for each in process.objects] == [
        ("", None), ("liba.so", "/bin/x"), ("libb.so", "/bin/x"),
    ]  # fmt: skip
    assert [(need.user.found, need.name, need.rule) for need in process.needs] == [
        ("/bin/x", "liba.so", "runpath"), ("/bin/x", "libb.so", "runpath"),
        ("/opt/liba.so", "libb.so", "loaded"), ("/opt/libb.so", "liba.so", "loaded"),
    ]  # fmt: skip


def test_all_names_of_one_file_are_one_object() -> None:
    others: dict[str, int | str | File] = {
        "/opt/libhard.so": File(path="/opt/libhard.so", kind="file", size=1000, hardlink="/opt/libx.so"),
        "/opt/liblink.so": "-> libx.so",
    }
    names = ("libx.so", "libhard.so", "liblink.so")
    program = elf("/bin/x", needed=(*names, "liby.so"), runpath=("/opt",))
    libraries = (elf("/opt/libx.so"), elf("/opt/liby.so", needed=names))
    process = start(image(others, elfs=[program, *libraries]), "/bin/x")
    assert loaded(process) == ["/opt/libx.so runpath", "/opt/liby.so runpath"]
    assert {need.object for need in process.needs if need.name in names} == {process.objects[1]}
    assert [need.rule for need in process.needs if need.user.found == "/opt/liby.so"] == ["loaded"] * 3


def test_a_hard_link_may_be_the_first_name_that_is_asked_for() -> None:
    other = {"/opt/libhard.so": File(path="/opt/libhard.so", kind="file", size=1000, hardlink="/lib64/libx.so")}
    program = elf("/bin/x", needed=("libhard.so", "libx.so"), runpath=("/opt",))
    process = start(image(other, elfs=[program, elf("/lib64/libx.so")]), "/bin/x")
    assert loaded(process) == ["/opt/libhard.so runpath"]


@pytest.mark.parametrize(
    ("what", "why"),
    [
        (File(path="/opt/liba.so", kind="file", size=63), "file too short"),
        (File(path="/opt/liba.so", kind="file", size=64), "invalid ELF header"),  # as long as one
        (elf("/opt/liba.so", type="rel"), "only ET_DYN and ET_EXEC can be loaded"),
    ],
)
def test_a_file_that_cannot_be_loaded_ends_the_search(what: File | Elf, why: str) -> None:
    program = elf("/bin/x", needed=("liba.so",), runpath=("/opt", "/good"))
    entries = {what.path: what} if isinstance(what, File) else {}
    made = [what] if isinstance(what, Elf) else []
    (need,) = start(image(entries, elfs=[program, elf("/good/liba.so"), *made]), "/bin/x").needs
    assert (need.object, need.rule, need.wrong, need.host) == (None, "runpath", ("/opt/liba.so", why), None)


def test_a_program_can_be_loaded_as_a_library() -> None:
    program = elf("/bin/x", type="exec", needed=("liba.so",), runpath=("/opt",))
    inventory = image({}, elfs=[program, elf("/opt/liba.so", type="exec")])
    assert loaded(start(inventory, "/bin/x")) == ["/opt/liba.so runpath"]
    assert Loader(inventory).why_not(program) is None


def test_a_placeholder_that_the_host_covers_is_not_wrong() -> None:
    program = elf("/bin/x", needed=("libcuda.so.1", "libnvml.so"), runpath=("/opt",))
    placeholder = File(path="/opt/libcuda.so.1", kind="file", size=0)
    inventory = image({placeholder.path: placeholder}, elfs=[program])
    cuda, missing = start(inventory, "/bin/x", allow={"libcuda.so*": "the driver", "libnvml*": "the toolkit"}).needs
    assert (cuda.host, cuda.wrong, cuda.rule, cuda.object) == ("the driver", None, "runpath", None)
    assert (missing.host, missing.wrong, missing.rule) == ("the toolkit", None, None)


def test_to_find_a_library_is_not_to_load_it() -> None:
    program = elf("/bin/x", runpath=("/opt",))
    inventory = image({}, elfs=[program, elf("/opt/liba.so")])
    loader = Loader(inventory)
    process = loader.start(program)
    for _ in range(2):
        need = loader.find(process, process.root, "liba.so")
        assert (need.object and need.object.found, need.rule) == ("/opt/liba.so", "runpath")
    assert process.objects == [process.root]


def test_folders_are_searched_once_each_and_relative_ones_from_the_working_directory() -> None:
    program = elf("/bin/x", runpath=("/opt/", "/", "lib", "", "/opt"))
    inventory = image({}, elfs=[program], settings=Settings(workdir="/work"))
    loader = Loader(inventory, env={"LD_LIBRARY_PATH": "env;$ORIGIN/../env"})
    process = loader.start(program)
    assert loader.searched(process, process.root, "liba.so") == (
        "/work/env", "/bin/../env", "/opt", "/", "/work/lib", "/work", "/etc/ld.so.cache", "/lib64", "/usr/lib64",
    )  # fmt: skip
    assert loader.searched(process, process.root, "d/liba.so") == ("/work/d/liba.so",)
    assert loader.searched(process, process.root, "$ORIGIN/../d/liba.so") == ("/bin/../d/liba.so",)


def test_without_a_working_directory_relative_folders_are_below_the_root() -> None:
    program = elf("/bin/x", needed=("d/liba.so",), runpath=("opt",))
    inventory = image({}, elfs=[program, elf("/d/liba.so", needed=("libb.so",)), elf("/opt/libb.so")])
    loader = Loader(inventory)
    process = loader.start(program)
    assert loaded(process) == ["/d/liba.so path"]
    assert loader.searched(process, process.root, "libb.so")[0] == "/opt"


@pytest.mark.parametrize("field", ["rpath", "runpath"])
def test_a_search_path_that_is_empty_names_no_folder(field: str) -> None:
    program = elf("/bin/x", needed=("liba.so",), **{field: ("",)})
    inventory = image({}, elfs=[program, elf("/liba.so")])
    assert loaded(start(inventory, "/bin/x", env={"LD_LIBRARY_PATH": ""})) == []


def test_tokens_may_stand_in_braces_and_in_names() -> None:
    program = elf("/usr/bin/x", needed=("${ORIGIN}/../d/liba.so", "libb.so", "libc.so"), rpath=("${ORIGIN}/../e",))
    libraries = (
        elf("/usr/d/liba.so"),
        elf("/usr/e/libb.so", needed=("libd.so",), runpath=("/opt/$PLATFORM/${LIB}",)),
        elf("/opt/x86_64/lib64/libd.so"),
    )
    process = start(image({}, elfs=[program, *libraries]), "/usr/bin/x")
    assert loaded(process) == [
        "/usr/bin/../d/liba.so path", "/usr/bin/../e/libb.so rpath", "/opt/x86_64/lib64/libd.so runpath",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("program", "runpath", "folder"),
    [
        ("/usr/lib/x", "$ORIGIN", "/usr/lib"),
        ("/usr/lib/p/x", "$ORIGIN", "/usr/lib/p"),
        ("/usr/lib/p/x", "${ORIGIN}/q", "/usr/lib/p/q"),
        ("/usr/lib/p/x", "${ORIGIN}/../../../opt", None),
        ("/usr/lib/p/x", "$ORIGIN.d", None),  # not a whole folder
        ("/usr/bin/x", "/usr/lib/$ORIGIN", None),  # not at the beginning
    ],
)
def test_a_setuid_program_searches_a_folder_by_origin_only_where_that_is_safe(
    program: str, runpath: str, folder: str | None
) -> None:
    made = elf(program, interpreter=LD, runpath=(runpath,))
    loader = Loader(debian(made))
    process = loader.start(made, secure=True)
    own = itertools.takewhile(
        lambda place: place != "/etc/ld.so.cache", loader.searched(process, process.root, "liba.so")
    )
    assert [posixpath.normpath(place) for place in own] == ([folder] if folder else [])


@pytest.mark.parametrize(
    ("interpreter", "mode", "secure"),
    [(LD, 0o755, False), (LD, 0o4755, True), (LD, 0o2755, True), (None, 0o4755, False)],
)
def test_a_program_is_secure_by_its_setuid_or_setgid_bit(interpreter: str | None, mode: int, *, secure: bool) -> None:
    program = elf("/bin/x", interpreter=interpreter)
    inventory = image({"/bin/x": File(path="/bin/x", kind="file", mode=mode, size=99)}, elfs=[program])
    assert start(inventory, "/bin/x").secure is secure


def test_preloaded_libraries_are_searched_as_needs_of_the_program() -> None:
    program = elf("/bin/x", needed=("libz.so",), runpath=("/opt",))
    libraries = [elf(f"/opt/lib{letter}.so") for letter in "abcz"]
    texts = {"/etc/ld.so.preload": "libc.so\n"}
    inventory = image({}, elfs=[program, *libraries], texts=texts)
    process = start(inventory, "/bin/x", env={"LD_PRELOAD": "liba.so libnone.so:/opt/libb.so"})
    assert loaded(process) == [
        "/opt/liba.so runpath", "/opt/libb.so path", "/opt/libc.so runpath", "/opt/libz.so runpath",
    ]  # fmt: skip


def test_an_entry_of_the_cache_for_another_machine_is_passed_over() -> None:
    foreign = elf("/opt/arm/liba.so.1", machine="aarch64")
    cache = (("liba.so.1", foreign.path), ("liba.so.1", "/opt/liba.so.1"))
    inventory = debian(elf("/bin/x", needed=("liba.so.1",)), foreign, elf("/opt/liba.so.1"), loader_cache=cache)
    assert loaded(start(inventory, "/bin/x")) == ["/opt/liba.so.1 cache"]


def test_multiarch_folders_may_be_in_lib_alone() -> None:
    folder = "/lib/x86_64-linux-gnu"
    loader = Loader(image({folder: File(path=folder, kind="dir")}))
    assert (loader.search.lib, loader.search.default[0]) == ("lib/x86_64-linux-gnu", folder)


def test_a_library_alone_is_loaded_by_the_interpreter_that_most_programs_name() -> None:
    programs = [elf(f"/bin/{name}", interpreter=LD) for name in "ab"]
    other = elf("/bin/c", interpreter="/opt/ld-linux.so.2")
    strangers = [elf(f"/musl/{name}", interpreter="/lib/ld-musl-x86_64.so.1") for name in "abc"]
    libraries = [elf(f"/opt/lib{name}.so", needed=("ld-linux-x86-64.so.2",)) for name in "abcd"]
    real = f"{MULTIARCH}/ld-linux-x86-64.so.2"
    inventory = image({LD: f"-> ..{real}"}, elfs=[other, *strangers, *programs, *libraries, elf(real)])
    process = start(inventory, "/opt/liba.so")
    assert process.interpreter is not None
    assert (process.interpreter.name, process.interpreter.found, process.interpreter.rule) == (LD, LD, "path")
    assert process.interpreter.elf.path == process.interpreter.identity == real
    assert [(need.object, need.rule) for need in process.needs] == [(process.interpreter, "loaded")]


def test_notes_say_what_of_the_loader_is_missing() -> None:
    program = elf("/bin/x", interpreter=LD)
    assert list(Loader(image({}, elfs=[program])).notes()) == [
        "no /etc/ld.so.cache: folders of /etc/ld.so.conf are not searched",
        f"{LD}: programs name it as their interpreter, and it is not there",
    ]
    whole = image({}, elfs=[program, elf(LD)], loader_cache=(("libx.so", "/opt/libx.so"),))
    assert list(Loader(whole).notes()) == []


def test_an_image_with_as_many_names_as_are_followed_is_resolved_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jetpare.image.loader._NEEDS", 2)
    libraries = [elf("/usr/lib64/liba.so", needed=("libb.so",)), elf("/usr/lib64/libb.so")]
    program = elf("/bin/x", needed=("liba.so",))
    loader = Loader(image({}, elfs=[program, *libraries]))
    assert len(loader.start(program).needs) == 2
    assert not [note for note in loader.notes() if "of the later files" in note]
