from __future__ import annotations

from collections.abc import Sequence

from jetpare.image.host_libraries import HOST_LIBRARIES, OPTIONAL_LIBRARIES, Dispensable
from jetpare.image.inventory import Distribution, Elf, Inventory
from jetpare.image.linkage import Dlopen, Edge, resolve
from jetpare.image.loader import Loader
from tests.inventories import elf, image

LD = "/lib64/ld-linux-x86-64.so.2"
SITE = "/opt/venv/lib/python3.11/site-packages"


def edges(inventory: Inventory, user: str) -> dict[str, Edge]:
    return {edge.name: edge for edge in resolve(inventory).edges if edge.user == user}


def dlopens(inventory: Inventory, user: str, optional: Sequence[Dispensable] = ()) -> dict[str, Dlopen]:
    linkage = resolve(inventory, optional=optional)
    return {each.name: each for each in linkage.dlopens if each.user == user}


def distribution(name: str, *files: str, requires: tuple[str, ...] = ()) -> Distribution:
    return Distribution(
        name=name, version="1", location=SITE, info=f"{SITE}/{name}-1.dist-info", requires=requires, files=files
    )


TORCH = (
    elf("/usr/bin/python3.11", soname=None, interpreter=LD),
    elf(f"{SITE}/torch/_C.so", soname=None, needed=("libtorch.so", "libcuda.so.1"), runpath=("$ORIGIN/lib",)),
    elf(f"{SITE}/torch/lib/libtorch.so"),
    elf(f"{SITE}/torchvision/_C.so", soname=None, needed=("libtorch.so",)),
)


def torch(*more: Elf) -> Inventory:
    """Python, torch, and torchvision, which says nothing of where torch is; *more* may replace files of theirs."""
    elfs = {each.path: each for each in (*TORCH, *more)}
    own = tuple(path for path in elfs if "/torch/" in path)
    requires = ("Torch (==2.8.0)", "stranger; extra == 'more'", "!")
    distributions = (
        distribution("torch", *own),
        distribution("torchvision", f"{SITE}/torchvision/_C.so", requires=requires),
    )
    return image({}, elfs=tuple(elfs.values()), distributions=distributions)


def test_what_a_required_distribution_loads_is_company() -> None:
    edge = edges(torch(), f"{SITE}/torchvision/_C.so")["libtorch.so"]
    assert (edge.status, edge.path, edge.by) == ("company", f"{SITE}/torch/lib/libtorch.so", f"{SITE}/torch/_C.so")
    assert edge.rule is None


def test_what_no_requirement_loads_is_missing() -> None:
    stranger = elf(f"{SITE}/stranger/_C.so", needed=("libtorch.so",))
    made = torch(stranger)
    edge = edges(made, stranger.path)["libtorch.so"]
    assert (edge.status, edge.path) == ("missing", None)
    assert edge.elsewhere == (f"{SITE}/torch/lib/libtorch.so",)
    assert edge.searched == ("/etc/ld.so.cache", "/lib64", "/usr/lib64")


def test_company_does_not_depend_on_what_else_is_missing() -> None:
    # The cause is told once: torch lacks libgone.so; that torchvision finds torch is still true.
    broken = elf(f"{SITE}/torch/lib/libtorch.so", needed=("libgone.so",))
    missing = [(edge.user, edge.name) for edge in resolve(torch(broken)).edges if edge.status == "missing"]
    assert missing == [("/usr/bin/python3.11", LD), (broken.path, "libgone.so")]


def test_what_python_code_would_have_to_load_by_path_is_told_apart() -> None:
    lost = elf(f"{SITE}/torch/_C.so", soname=None, needed=("libtorch.so",))
    edge = edges(torch(lost), f"{SITE}/torchvision/_C.so")["libtorch.so"]
    assert (edge.status, edge.path, edge.by) == ("company", TORCH[2].path, TORCH[2].path)


def test_an_rpath_of_whoever_loads_it_is_company() -> None:
    library = elf("/opt/d/liba.so", needed=("libb.so",))
    program = elf("/opt/bin/x", soname=None, needed=("liba.so",), rpath=("/opt/d",))
    edge = edges(image({}, elfs=[program, library, elf("/opt/d/libb.so")]), library.path)["libb.so"]
    assert (edge.status, edge.path, edge.by) == ("company", "/opt/d/libb.so", "/opt/bin/x")


def test_the_hosts_libraries_are_no_fault_and_have_no_path() -> None:
    edge = edges(torch(), f"{SITE}/torch/_C.so")["libcuda.so.1"]
    assert (edge.status, edge.path, edge.by) == ("host", None, "nvidia-l4t-cuda, by drivers.csv")


def test_a_placeholder_of_a_host_library_is_the_hosts() -> None:
    # l4t images hold empty files, over which the host's are mounted.
    made = image(
        {"/opt/libcuda.so.1": 0, "/opt/liba.so": 0},
        elfs=[elf("/bin/x", needed=("libcuda.so.1", "liba.so"), runpath=("/opt",))],
    )
    found = edges(made, "/bin/x")
    assert found["libcuda.so.1"].status == "host"
    assert (found["liba.so"].status, found["liba.so"].path, found["liba.so"].by) == (
        "broken",
        "/opt/liba.so",
        "file too short",
    )


def test_the_list_of_host_libraries_is_the_callers() -> None:
    made = image({}, elfs=[elf("/bin/x", needed=("libmine.so.3",))])
    assert [edge.status for edge in resolve(made).edges] == ["missing"]
    (edge,) = resolve(made, allow={**HOST_LIBRARIES, "libmine.so.*": "our own mount"}).edges
    assert (edge.status, edge.by) == ("host", "our own mount")


def test_cudas_own_libraries_are_not_the_hosts() -> None:
    loader = Loader(image({}), allow=HOST_LIBRARIES)
    names = ("libnvrtc.so.12", "libnvrtc-builtins.so.12.6", "libnvjpeg.so.12", "libnvinfer.so.10", "libnvToolsExt.so.1")
    assert [loader.host(name) for name in (*names, "libnvdla_compiler.so", "libcudnn.so.9")] == [None] * 7
    assert all(loader.host(name) for name in ("libcuda.so.1", "libnvrm_gpu.so", "libnvidia-eglcore.so.540.4.0"))


def test_versions_that_are_not_defined() -> None:
    libc = elf("/usr/lib64/libc.so.6", versions_defined=("GLIBC_2.34", "GLIBC_2.36"))
    old = elf("/usr/lib64/liba.so")
    wanted = {"libc.so.6": ("GLIBC_2.34", "GLIBC_2.38"), "liba.so": ("A_1",)}
    found = edges(
        image({}, elfs=[elf("/bin/x", needed=("libc.so.6", "liba.so"), versions_needed=wanted), libc, old]), "/bin/x"
    )
    assert found["libc.so.6"].unmet == ("GLIBC_2.38",)
    assert found["libc.so.6"].status == "found"
    assert found["liba.so"].unmet == ()  # a library without versions has them all


def test_a_programs_interpreter_is_needed_too() -> None:
    program = elf("/bin/x", interpreter=LD)
    assert edges(image({}, elfs=[program]), "/bin/x")[LD].status == "missing"
    loader = elf("/usr/lib/ld.so")
    found = edges(image({LD: "-> /usr/lib/ld.so"}, elfs=[program, loader]), "/bin/x")[LD]
    assert (found.status, found.path) == ("found", "/usr/lib/ld.so")


def test_files_of_other_loaders_are_told_of_and_left_alone() -> None:
    linkage = resolve(
        image({}, elfs=[elf("/a.so", machine="aarch64", needed=("libgone.so",)), elf("/b.o", type="rel")])
    )
    assert linkage.edges == ()
    assert linkage.skipped == {"/a.so": "for aarch64, 64 bits", "/b.o": "of type rel: nothing that is loaded"}


def test_dlopen_names() -> None:
    names = (
        "libfound.so.1",
        "libplugin.so",
        "libold.so.1",
        "libold.so.2",
        "libnvrtc.so",
        "libnvrtc-builtins.so.12.6",
        "libcuda.so.1",
        "/usr/lib/nvidia/libnvidia-ml.so.1",
        "libspare.so.2",
        "liba.so",
    )
    places = (
        "/usr/lib64/libfound.so.1",
        "/opt/plugins/libplugin.so",
        "/usr/lib64/libold.so.2",
        "/usr/lib64/libnvrtc.so.12",
    )
    user = elf("/usr/lib64/liba.so", strings=names)
    made = image({}, elfs=[user, elf("/usr/lib64/libnvrtc-builtins.so.12.4"), *(elf(path) for path in places)])
    spare = Dispensable(user="liba.so*", names=("libspare.so*",), why="a spare")
    found = dlopens(made, user.path, [spare])
    assert {name: (each.status, each.path or each.by) for name, each in found.items()} == {
        "libfound.so.1": ("found", "/usr/lib64/libfound.so.1"),
        "libplugin.so": ("elsewhere", "/opt/plugins/libplugin.so"),
        "libold.so.1": ("alternative", "/usr/lib64/libold.so.2"),
        "libold.so.2": ("found", "/usr/lib64/libold.so.2"),
        "libnvrtc.so": ("alternative", "/usr/lib64/libnvrtc.so.12"),
        # Another version of a name that has one is no substitute: the release that jetpare was made for.
        "libnvrtc-builtins.so.12.6": ("missing", None),
        "libcuda.so.1": ("host", "nvidia-l4t-cuda, by drivers.csv"),
        "/usr/lib/nvidia/libnvidia-ml.so.1": ("host", "nvidia-l4t-nvml, by drivers.csv"),
        "libspare.so.2": ("optional", "a spare"),
    }


def test_a_dlopen_name_in_company() -> None:
    user = elf(f"{SITE}/torchvision/_C.so", soname=None, strings=("libtorch.so",))
    found = dlopens(torch(user), user.path)["libtorch.so"]
    assert (found.status, found.path, found.by) == ("company", f"{SITE}/torch/lib/libtorch.so", f"{SITE}/torch/_C.so")


def test_a_dlopen_name_is_searched_where_its_user_searches() -> None:
    user = elf("/opt/bin/x", strings=("libp.so",), runpath=("$ORIGIN/../plugins",))
    found = dlopens(image({}, elfs=[user, elf("/opt/plugins/libp.so")]), user.path)["libp.so"]
    assert (found.status, found.path) == ("found", "/opt/plugins/libp.so")


def test_every_entry_of_the_tables_has_a_reason() -> None:
    assert all(HOST_LIBRARIES.values())
    assert all(each.why and each.names and each.user for each in OPTIONAL_LIBRARIES)
