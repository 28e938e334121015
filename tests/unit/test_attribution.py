"""Attribution: every byte has one owner, the sum is the image's, and each rule knows what it should."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from jetpare.config.load import load_config
from jetpare.image.attribution import Component, attribute, unowned
from jetpare.image.inventory import Distribution, File, Inventory, Package
from jetpare.image.known_files import WRITTEN_BY
from tests.conftest import ROOT
from tests.inventories import image

SITE = "/opt/venv/lib/python3.11/site-packages"


def package(name: str, *files: str, **more: Any) -> Package:
    return Package(**{"name": name, "version": "1", "architecture": "amd64", "files": files, **more})


def distribution(name: str, *files: str, location: str = SITE, **more: Any) -> Distribution:
    info = f"{location}/{name}-2.dist-info"
    return Distribution(**{"name": name, "version": "2", "location": location, "info": info, "files": files, **more})


def owners(made: Inventory) -> Mapping[str, str]:
    return attribute(made, groups={}).owners


def component(made: Inventory, key: str, groups: Mapping[str, tuple[str, ...]] | None = None) -> Component:
    return next(each for each in attribute(made, groups=groups or {}).components if each.key == key)


def test_a_debian_like_image_has_packages_a_base_and_nobody() -> None:
    made = image(
        {"/usr/bin/ls": 100, "/etc/hostname": 5, "/etc/ld.so.cache": 7, "/srv/data.bin": 50},
        packages=(package("coreutils", "/usr/bin/ls"), package("libc-bin")),
    )
    assert owners(made) == {
        "/usr/bin/ls": "debian:coreutils",
        "/etc/hostname": "base",
        "/etc/ld.so.cache": "debian:libc-bin",
        "/srv/data.bin": "nobody",
    }
    assert [file.path for file in unowned(made, attribute(made, groups={}))] == ["/srv/data.bin"]


def test_a_list_from_before_usrmerge_names_files_by_another_folder() -> None:
    made = image(
        {"/lib": "-> usr/lib", "/usr/lib/libz.so.1.2": 10, "/usr/lib/libz.so.1": "-> libz.so.1.2"},
        packages=(package("zlib1g", "/lib/libz.so.1.2", "/lib/libz.so.1"),),
    )
    assert owners(made) == {"/usr/lib/libz.so.1.2": "debian:zlib1g"}


def test_a_diverted_file_is_still_its_packages() -> None:
    made = image(
        {"/bin/sh": 1, "/bin/sh.distrib": 2, "/bin/man": 3, "/bin/man.real": 4},
        packages=(package("dash", "/bin/sh"), package("bash", "/bin/sh"), package("man-db", "/bin/man")),
        texts={"/var/lib/dpkg/diversions": "/bin/sh\n/bin/sh.distrib\nbash\n/bin/man\n/bin/man.real\n:\n"},
    )
    assert owners(made) == {
        "/bin/sh": "debian:bash",
        "/bin/sh.distrib": "debian:dash",
        "/bin/man": "nobody",  # a local diversion: somebody put another one there
        "/bin/man.real": "debian:man-db",
    }


def test_byte_code_and_backups_belong_to_what_they_were_made_from() -> None:
    made = image(
        {
            "/usr/lib/python3/dist-packages/apt/__init__.py": 1,
            "/usr/lib/python3/dist-packages/apt/__pycache__/__init__.cpython-311.pyc": 2,
            "/usr/lib/python3/dist-packages/apt/__pycache__/__init__.cpython-311.opt-1.pyc": 2,
            f"{SITE}/torch/nn.py": 3,
            f"{SITE}/torch/__pycache__/nn.cpython-311.pyc": 4,
            "/etc/a.conf": 5,
            "/etc/a.conf.dpkg-old": 6,
            "/etc/passwd": 7,
            "/etc/passwd-": 7,
        },
        packages=(
            package("python3-apt", "/usr/lib/python3/dist-packages/apt/__init__.py"),
            package("a", "/etc/a.conf"),
            package("base-passwd"),
        ),
        distributions=(distribution("torch", f"{SITE}/torch/nn.py"),),
    )
    found = owners(made)
    assert {path.rpartition("/")[2]: key for path, key in found.items()} == {
        "__init__.py": "debian:python3-apt",
        "__init__.cpython-311.pyc": "debian:python3-apt",
        "__init__.cpython-311.opt-1.pyc": "debian:python3-apt",
        "nn.py": "python:torch",
        "nn.cpython-311.pyc": "python:torch",
        "a.conf": "debian:a",
        "a.conf.dpkg-old": "debian:a",
        "passwd": "debian:base-passwd",
        "passwd-": "debian:base-passwd",
    }


def test_a_distribution_without_a_list_has_what_can_be_imported_of_it() -> None:
    made = image(
        {f"{SITE}/six.py": 1, f"{SITE}/old/a.py": 2, f"{SITE}/old-2.dist-info/METADATA": 3, f"{SITE}/else.py": 4},
        distributions=(
            distribution("old", files=None, top_level=("old",)),
            distribution("six", files=None, top_level=("six",)),
        ),
    )
    assert owners(made) == {
        f"{SITE}/six.py": "python:six",
        f"{SITE}/old/a.py": "python:old",
        f"{SITE}/old-2.dist-info/METADATA": "python:old",
        f"{SITE}/else.py": "nobody",
    }


def test_one_name_in_two_places_is_two_components_and_a_packages_own_stays_the_packages() -> None:
    dist = "/usr/lib/python3/dist-packages"
    numpy = distribution("numpy", f"{SITE}/numpy/a.py")
    packaged = distribution("numpy", location=dist, files=None, top_level=("numpy",))
    files = {f"{SITE}/numpy/a.py": 1, f"{dist}/numpy/a.py": 2, f"{dist}/numpy/__pycache__/a.cpython-311.pyc": 3}
    made = image(
        {**files, f"{dist}/numpy-2.dist-info/METADATA": 4},
        packages=(package("python3-numpy", f"{dist}/numpy/a.py", f"{dist}/numpy-2.dist-info/METADATA"),),
        distributions=(packaged, numpy),
    )
    assert set(owners(made).values()) == {"python:numpy", "debian:python3-numpy"}
    assert component(made, "debian:python3-numpy").bytes == 9

    other = "/opt/other/lib/python3.11/site-packages"
    twice = image(
        {f"{SITE}/numpy/a.py": 1, f"{other}/numpy/a.py": 2},
        distributions=(numpy, distribution("numpy", f"{other}/numpy/a.py", location=other)),
    )
    assert set(owners(twice).values()) == {f"python:numpy@{SITE}", f"python:numpy@{other}"}


def test_the_manifests_of_our_own_trees() -> None:
    cudnn = "/usr/lib/aarch64-linux-gnu/libcudnn_ops.so.9.3.0"
    cupti = "/usr/local/cuda-12.6/targets/aarch64-linux/lib/libcupti.so.2024.3.2"
    made = image(
        {cudnn: 10, cupti: 20, "/usr/local/bin/gdalinfo": 30, "/usr/share/jetpare/cudnn.tsv": 1, "/srv/x": 2},
        texts={
            "/usr/share/jetpare/cudnn.tsv": f"path\ttype\n{cudnn}\tfile\n{cupti}\tfile\n",
            "/usr/share/jetpare/gdal-files.txt": "# GDAL 3.11.5\n/usr/local/bin/gdalinfo\n",
        },
        packages=(package("other", "/usr/local/bin/gdalinfo"),),
    )
    assert owners(made) == {
        cudnn: "collected:cudnn",
        cupti: "collected:cupti",
        "/usr/local/bin/gdalinfo": "gdal",
        "/usr/share/jetpare/cudnn.tsv": "jetpare",
        "/srv/x": "nobody",
    }
    assert component(made, "collected:cudnn").version == "9.3.0"
    assert component(made, "gdal").version == "3.11.5"


def test_cuda_by_its_place_and_cudnn_by_its_name() -> None:
    lib = "/usr/local/cuda-12.6/targets/x86_64-linux/lib"
    made = image(
        {
            f"{lib}/libcublasLt.so.12.6.4.1": 5,
            f"{lib}/libcublas.so.12.6.4.1": 4,
            f"{lib}/libcublas_static.a": 3,
            "/usr/local/cuda-12.6/targets/x86_64-linux/include/cuda.h": 2,
            "/usr/lib/x86_64-linux-gnu/libcudnn.so.9.10.2": 6,
            "/usr/include/x86_64-linux-gnu/cudnn_version.h": 1,
        }
    )
    found = attribute(made, groups={}).components
    assert {each.key: (each.bytes, each.version) for each in found} == {
        "cuda:cublasLt": (5, "12.6.4.1"),
        "cuda:cublas": (7, "12.6.4.1"),
        "cuda": (2, None),
        "cuda:cudnn": (7, "9.10.2"),
    }


def test_a_virtual_environments_own_and_an_interpreter_that_no_package_brought() -> None:
    made = image(
        {
            "/opt/venv/pyvenv.cfg": 1,
            "/opt/venv/bin/activate": 2,
            "/opt/venv/bin/mine": 3,
            "/usr/local/lib/python3.12/os.py": 4,
            "/usr/local/lib/python3.12/json/__init__.py": 5,
            "/usr/local/lib/python3.12/site-packages/mine.py": 6,
            "/usr/lib/python3.11/os.py": 7,
        },
        packages=(package("libpython3.11-minimal", "/usr/lib/python3.11/os.py"),),
    )
    assert owners(made) == {
        "/opt/venv/pyvenv.cfg": "venv:/opt/venv",
        "/opt/venv/bin/activate": "venv:/opt/venv",
        "/opt/venv/bin/mine": "nobody",
        "/usr/local/lib/python3.12/os.py": "interpreter:/usr/local",
        "/usr/local/lib/python3.12/json/__init__.py": "interpreter:/usr/local",
        "/usr/local/lib/python3.12/site-packages/mine.py": "nobody",
        "/usr/lib/python3.11/os.py": "debian:libpython3.11-minimal",
    }


def test_a_folder_two_thousand_levels_deep() -> None:
    deep = SITE + "/a" * 2000
    made = image({f"{deep}/b.py": 3}, distributions=(distribution("a", files=None, top_level=("a",)),))
    assert owners(made) == {f"{deep}/b.py": "python:a"}


def test_a_hard_link_is_one_file_of_whoever_knows_one_of_its_names() -> None:
    made = image(
        {"/a/copy": 10, "/usr/bin/perl": File(path="/usr/bin/perl", kind="file", size=10, hardlink="/a/copy")},
        packages=(package("perl-base", "/usr/bin/perl"),),
    )
    assert set(owners(made).values()) == {"debian:perl-base"}
    found = component(made, "debian:perl-base")
    assert (found.bytes, found.files) == (10, 1)


def test_a_name_installed_for_two_architectures_is_two_components() -> None:
    made = image(
        {"/lib/a": 1, "/lib32/a": 2},
        packages=(package("libc6", "/lib/a"), package("libc6", "/lib32/a", architecture="i386")),
    )
    assert set(owners(made).values()) == {"debian:libc6:amd64", "debian:libc6:i386"}


def test_the_first_group_wins_and_a_path_takes_a_part_of_a_component() -> None:
    made = image(
        {"/usr/lib/a.so": 1, "/usr/share/doc/a": 2, "/usr/lib/b.so": 4},
        packages=(package("a", "/usr/lib/a.so", "/usr/share/doc/a"), package("b", "/usr/lib/b.so")),
    )
    groups = {"documents": ("/usr/share/doc/*",), "letters": ("debian:a", "debian:[b-z]"), "rest": ("debian:*",)}
    found = attribute(made, groups=groups)
    assert {(each.key, each.group, each.bytes) for each in found.components} == {
        ("debian:a", "letters", 1),
        ("debian:a (documents)", "documents", 2),
        ("debian:b", "letters", 4),
    }
    assert found.owners["/usr/share/doc/a"] == "debian:a (documents)"
    assert {each.group for each in attribute(made, groups={}).components} == {"other"}


def test_what_a_package_writes_counts_only_where_it_is_installed() -> None:
    made = image({"/var/lib/dpkg/status": 3, "/var/cache/debconf/config.dat": 4}, packages=(package("dpkg"),))
    assert owners(made) == {"/var/lib/dpkg/status": "debian:dpkg", "/var/cache/debconf/config.dat": "nobody"}


def test_the_projects_own_groups_take_every_kind_of_component_but_nobody() -> None:
    groups = load_config(ROOT / "build.toml").groups
    made = image(
        {
            "/usr/bin/x": 1,
            "/usr/share/jetpare/a": 1,
            "/etc/hostname": 1,
            "/opt/venv/pyvenv.cfg": 1,
            "/usr/local/cuda/x": 1,
            "/usr/local/lib/libgdal.so.36": 1,
            "/usr/local/lib/python3.9/os.py": 1,
            f"{SITE}/torch.py": 1,
            "/srv/x": 1,
        },
        packages=(package("x", "/usr/bin/x"),),
        distributions=(distribution("torch", f"{SITE}/torch.py"),),
    )
    found = attribute(made, groups=groups).components
    assert {each.key for each in found if each.group == "other"} == {"nobody"}
    assert len(found) == 9


PATHS = st.sampled_from(
    [
        *(pattern.replace("*", "x") for pattern, _ in WRITTEN_BY),
        "/usr/lib/liba.so", "/lib/liba.so", "/opt/venv/pyvenv.cfg", "/opt/venv/bin/python", f"{SITE}/a/b.py",
        f"{SITE}/a/__pycache__/b.cpython-311.pyc", "/usr/local/cuda/lib/libcublas.so.1.2.3", "/srv/b\udcff\nx",
        "/usr/local/lib/libgdal.so", "/etc/passwd", "/etc/passwd-", "/usr/share/jetpare/x", "/a (b)", "/usr/local/lib/python3.9/os.py",
    ]
)  # fmt: skip


@given(
    st.dictionaries(PATHS, st.integers(0, 1 << 40), max_size=30),
    st.lists(st.tuples(st.sampled_from(["dpkg", "libc-bin", "apt", "x"]), st.lists(PATHS, max_size=5)), max_size=4),
    st.lists(PATHS, max_size=8),
    st.dictionaries(PATHS, PATHS, max_size=4),
    st.dictionaries(st.text(min_size=1), st.lists(st.sampled_from(["debian:*", "/usr/*", "base", "*"])), max_size=4),
)
def test_the_sum_is_the_images_and_every_file_has_one_owner(
    sizes: dict[str, int],
    packages: list[tuple[str, list[str]]],
    recorded: list[str],
    hard: dict[str, str],
    groups: dict[str, list[str]],
) -> None:
    links = {
        name: File(path=name, kind="file", size=sizes[first], hardlink=first)
        for name, first in hard.items()
        if first in sizes and first not in hard and first < name
    }
    made = image(
        {**sizes, **links},
        packages=tuple(package(name, *files) for name, files in packages),
        distributions=(distribution("a", *recorded),),
    )
    found = attribute(made, groups=groups)
    assert sum(each.bytes for each in found.components) == made.bytes
    assert sum(each.files for each in found.components) == sum(
        file.kind == "file" and file.hardlink is None for file in made.files
    )
    assert set(found.owners) == {file.path for file in made.files if file.kind == "file"}
    assert set(found.owners.values()) == {each.key for each in found.components}
    assert len({each.key for each in found.components}) == len(found.components)
    assert list(found.components) == sorted(found.components, key=lambda each: (-each.bytes, each.key))
