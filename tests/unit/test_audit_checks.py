"""Each check on images made by hand: what it finds, and what it lets be."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetpare.audit import (
    binaries,
    configuration,
    data,
    duplicates,
    leftovers,
    libraries,
    packages,
    stack,
    subjects,
    users,
)
from jetpare.audit.subject import Finding, NotMeasured, Subject
from jetpare.base import probe_report
from jetpare.base.versions import ImageCheck
from jetpare.config.schema import AuditSettings as Rules
from jetpare.image import version_sources
from jetpare.image.inventory import Distribution, Elf, File, Inventory, LayerInfo, Mention, Package, Settings
from tests.inventories import elf, image

SITE = "/opt/venv/lib/python3.11/site-packages"
MB = 10**6


def subject(inventory: Inventory, **more: Any) -> Subject:
    return Subject(
        **{"name": "cuda", "reference": "x/cuda:y", "inventory": inventory, "baseline_name": "jetpack", **more}
    )


def said(findings: Any) -> set[str]:
    return {f"{each.severity} {each.subject}" for each in findings}


def only(findings: Any) -> Finding:
    found = list(findings)
    assert len(found) == 1, found
    first: Finding = found[0]
    return first


def package(name: str, **more: Any) -> Package:
    return Package(**{"name": name, "version": "1", "architecture": "amd64", "section": "libs", "auto": True, **more})


def wheel(name: str, *files: str, **more: Any) -> Distribution:
    info = f"{SITE}/{name}-1.dist-info"
    return Distribution(
        **{
            "name": name,
            "version": "1",
            "location": SITE,
            "info": info,
            "files": tuple(f"{SITE}/{f}" for f in files),
            **more,
        }
    )


def copies(*paths: str, size: int = 2 * MB) -> dict[str, File]:
    return {path: File(path=path, kind="file", size=size, digest="ab") for path in paths}


# --- A1, A2, A3: the resolver has tests of its own


def linked(**more: Any) -> Inventory:
    program = elf("/usr/bin/tool", soname=None, interpreter="/lib64/ld-linux-x86-64.so.2", needed=("liba.so.1",))
    loader = elf("/lib64/ld-linux-x86-64.so.2")
    cache = (("liba.so.1", "/usr/lib/liba.so.1"),)
    return image({}, elfs=[program, loader, *more.pop("elfs", ())], loader_cache=cache, **more)


def test_a_library_that_is_found_is_no_finding() -> None:
    fine = subject(linked(elfs=[elf("/usr/lib/liba.so.1")]))
    assert list(libraries.linked(fine)) == list(libraries.lazily_loaded(fine)) == []


def test_a_library_that_a_program_needs_and_the_loader_does_not_find() -> None:
    found = only(libraries.linked(subject(linked())))
    assert (found.severity, found.subject) == ("error", "liba.so.1")
    assert [each.path for each in found.evidence] == ["/usr/bin/tool"]
    assert found.searched


def test_what_a_library_needs_that_nothing_links_is_for_the_check_of_lazy_ones() -> None:
    lazy = subject(linked(elfs=[elf("/usr/lib/liba.so.1"), elf("/opt/libprovider.so", needed=("libgone.so.1",))]))
    assert list(libraries.linked(lazy)) == []
    assert said(libraries.lazily_loaded(lazy)) == {"error libgone.so.1"}


def test_what_the_host_mounts_is_not_missing() -> None:
    inventory = linked(elfs=[elf("/usr/lib/liba.so.1", needed=("libcuda.so.1", "libmine.so.2"))])
    assert said(libraries.linked(subject(inventory))) == {"error libmine.so.2"}
    assert said(libraries.linked(subject(inventory, rules=Rules(host_libraries=("libmine.so.*",))))) == set()


def test_a_version_that_a_library_does_not_define() -> None:
    libc = elf("/usr/lib/liba.so.1", versions_defined=("A_1", "A_2"))
    program = elf(
        "/usr/bin/new",
        soname=None,
        interpreter="/lib64/ld-linux-x86-64.so.2",
        needed=("liba.so.1",),
        versions_needed={"liba.so.1": ("A_3",)},
    )
    assert said(libraries.linked(subject(linked(elfs=[libc, program])))) == {"error /usr/lib/liba.so.1 A_3"}


def test_names_in_strings_by_how_much_their_absence_matters() -> None:
    names = ("libnvrtc-builtins.so.12.6", "libother.so.3", "libbase.so.1", "libnvrtc_plugin.so")
    nvrtc = elf("/usr/lib/libnvrtc.so.12", strings=names)
    baseline = image({"/usr/lib/libbase.so.1": 10}, loader_dirs=("/usr/lib",))
    found = libraries.opened(subject(linked(elfs=[elf("/usr/lib/liba.so.1"), nvrtc]), baseline=baseline))
    assert said(found) == {"error libnvrtc-builtins.so.12.6", "warning libbase.so.1", "note dlopen"}


# --- A4, A6, A23


def layer(size: int | None, instruction: str | None) -> LayerInfo:
    return LayerInfo(diff_id="sha256:1", size=size, instruction=instruction)


@pytest.mark.parametrize(
    ("instruction", "expected"),
    [
        ("COPY /opt/stage/ / # buildkit", {"error COPY /opt/stage/ /"}),
        ("/bin/sh -c #(nop) ADD file:1 in / ", {"error ADD file:1 in /"}),
        ("RUN /bin/sh -c cp /a/* /b || true # buildkit", {"warning RUN cp /a/* /b || true"}),
        ("RUN /bin/sh -c rm -rf /var/lib/apt/lists/* # buildkit", set()),
        ("WORKDIR /app", set()),
    ],
)
def test_layers_that_hold_nothing(instruction: str, expected: set[str]) -> None:
    assert said(stack.empty(subject(image({}, layers=(layer(9, "COPY a b"), layer(0, instruction)))))) == expected


def test_layers_that_cannot_be_told_apart_are_not_called_empty() -> None:
    assert list(stack.empty(subject(image({}, layers=(layer(None, "COPY a b"), layer(0, None)))))) == []


def test_a_required_pattern_that_matches_nothing() -> None:
    inventory = image({"/usr/local/cuda": "-> cuda-12", "/usr/local/cuda-12/lib/liba.so.1": 5})
    patterns = ("usr/local/cuda/lib/liba*.so*", "usr/include/a*.h")
    assert said(stack.empty(subject(inventory, collect=patterns))) == {"error usr/include/a*.h"}


def test_bytes_that_later_layers_hide() -> None:
    inventory = image({"/a": 100 * MB})
    assert only(stack.overwritten(subject(inventory, layers_bytes=140 * MB))).bytes == 40 * MB
    assert list(stack.overwritten(subject(inventory, layers_bytes=100 * MB + 999_999))) == []
    with pytest.raises(NotMeasured):
        list(stack.overwritten(subject(inventory, layers_bytes=None)))


@pytest.mark.parametrize(("count", "expected"), [(100, set()), (101, {"warning layers"}), (127, {"error layers"})])
def test_how_many_layers_there_may_be(count: int, expected: set[str]) -> None:
    assert said(stack.budget(subject(image({}, layers=(layer(1, "COPY a b"),) * count)))) == expected


def test_the_budget() -> None:
    assert list(stack.budget(subject(image({}), budget=5, layers_bytes=5))) == []
    assert only(stack.budget(subject(image({}), budget=5, layers_bytes=7))).bytes == 2
    with pytest.raises(NotMeasured):
        list(stack.budget(subject(image({}), budget=5)))


# --- A5, A12


def test_copies_of_one_content() -> None:
    chain = subject(image(copies("/l/liba.so", "/l/liba.so.1", "/l/liba.so.1.2")))
    found = only(duplicates.copies(chain))
    assert (found.severity, found.bytes) == ("warning", 4 * MB)
    elsewhere = subject(image(copies("/a/x.bin", "/b/x.bin")))
    assert (only(duplicates.copies(elsewhere)).severity, only(duplicates.copies(elsewhere)).bytes) == ("note", 2 * MB)


def test_hard_links_and_small_files_are_no_waste() -> None:
    files = copies("/a", "/b")
    files["/b"] = File(path="/b", kind="file", size=2 * MB, digest="ab", hardlink="/a")
    assert list(duplicates.copies(subject(image(files)))) == []
    assert list(duplicates.copies(subject(image(copies("/a", "/b", size=MB - 1))))) == []


def test_a_library_without_the_link_of_its_soname() -> None:
    lib = elf("/usr/lib/liba.so.1.2.3", soname="liba.so.1")
    bare = image({}, elfs=[lib], loader_dirs=("/usr/lib",))
    assert said(duplicates.copies(subject(bare))) == {"warning /usr/lib/liba.so.1.2.3"}
    whole = image({"/usr/lib/liba.so.1": "-> liba.so.1.2.3"}, elfs=[lib], loader_dirs=("/usr/lib",))
    assert list(duplicates.copies(subject(whole))) == []


def test_a_torch_for_the_cpu() -> None:
    torch = wheel("torch", "torch/lib/libtorch_cuda.so", version="2.8.0")
    cpu = wheel("torch", "torch/lib/libtorch_cpu.so", version="2.8.0+cpu")
    assert list(duplicates.twice(subject(image({}, distributions=(torch,)), cuda=True))) == []
    assert said(duplicates.twice(subject(image({}, distributions=(cpu,)), cuda=True))) == {"error torch"}
    assert list(duplicates.twice(subject(image({}, distributions=(cpu,)), cuda=False))) == []
    named = image({}, distributions=(torch,), texts={f"{SITE}/torch/version.py": "cuda: Optional[str] = None\n"})
    assert said(duplicates.twice(subject(named, cuda=True))) == {"error torch"}


def test_distributions_that_overwrite_each_other() -> None:
    one = wheel("opencv-python", "cv2/cv2.abi3.so", top_level=("cv2",))
    two = wheel("opencv-python-headless", "cv2/cv2.abi3.so", top_level=("cv2",))
    part = wheel("google-auth", "google/auth.py", top_level=("google",))
    other = wheel("google-api", "google/api.py", top_level=("google",))
    found = duplicates.twice(subject(image({}, distributions=(one, two, part, other))))
    assert said(found) == {"warning import cv2"}


def test_a_distribution_in_two_places_is_told() -> None:
    system = wheel("numpy", location="/usr/lib/python3/dist-packages", files=None)
    assert said(duplicates.twice(subject(image({}, distributions=(wheel("NumPy"), system))))) == {"note numpy"}
    spelled = wheel("foo__bar"), wheel("Foo.-bar", location="/usr/lib/python3/dist-packages", files=None)
    assert said(duplicates.twice(subject(image({}, distributions=spelled)))) == {"note foo-bar"}


def test_cuda_of_a_wheel_beside_the_systems() -> None:
    own, system = f"{SITE}/nvidia/lib/libcudart.so.12", "/usr/lib/libcudart.so.12"
    nvidia = wheel("nvidia-cuda-runtime-cu12", "nvidia/lib/libcudart.so.12")
    both = image({}, elfs=[elf(own), elf(system)], distributions=(nvidia,), loader_dirs=("/usr/lib",))
    assert only(duplicates.twice(subject(both))).bytes == 1000
    alone = image({}, elfs=[elf(own)], distributions=(nvidia,), loader_dirs=("/usr/lib",))
    assert list(duplicates.twice(subject(alone))) == []


# --- A7


def names(inventory: Inventory, **more: Any) -> dict[str, Finding]:
    return {each.subject: each for each in users.unused(subject(inventory, rules=Rules(least_mb=0), **more))}


def test_a_library_that_nobody_uses_takes_what_only_it_uses_along() -> None:
    gdal = elf("/usr/local/lib/libgdal.so.36", needed=("libproj.so.25", "libc.so.6"))
    info = elf(
        "/usr/local/bin/gdalinfo", soname=None, interpreter="/lib64/ld-linux-x86-64.so.2", needed=("libgdal.so.36",)
    )
    proj, libc = elf("/usr/lib/libproj.so.25"), elf("/usr/lib/libc.so.6")
    inventory = image(
        {"/usr/local/share/gdal/x.json": 500, "/usr/share/proj/proj.db": 300},
        elfs=[gdal, info, proj, libc],
        packages=(
            package("libproj25", files=("/usr/lib/libproj.so.25",), depends=("libc6 (>= 2)", "proj-data | x")),
            package("proj-data", files=("/usr/share/proj/proj.db",)),
            package("libc6", files=("/usr/lib/libc.so.6",), essential=True),
        ),
    )
    found = names(inventory)
    assert set(found) == {"libgdal"}
    assert found["libgdal"].title == "users of libgdal: none but its own commands (gdalinfo)"
    assert [each.path for each in found["libgdal"].evidence] == ["libgdal", "libproj25", "proj-data"]
    assert found["libgdal"].bytes == 500 + 1000 * 3 + 300


def test_who_uses_a_library_keeps_it() -> None:
    libs = [elf(f"/opt/lib/lib{name}.so.1") for name in ("needed", "named", "bare")]
    module = elf(f"{SITE}/m/_c.cpython-311-x86_64-linux-gnu.so", soname=None, needed=("libneeded.so.1",))
    libs[0] = elf("/opt/lib/libneeded.so.1", strings=("libnamed.so.1",))
    inventory = image({}, elfs=[*libs, module], distributions=(wheel("m", "m/_c.cpython-311-x86_64-linux-gnu.so"),))
    assert set(names(inventory)) == {"libbare"}


def test_what_was_asked_for_has_users() -> None:
    inventory = image(
        {"/usr/bin/tool": 9, "/usr/share/zone": 9, "/usr/lib/liblonely.so": 9},
        packages=(
            package("tool", section="utils", auto=False, files=("/usr/bin/tool",)),
            package("tzdata", section="localization", files=("/usr/share/zone",)),
            package("liblonely", files=("/usr/lib/liblonely.so",)),
        ),
    )
    assert set(names(inventory)) == {"tzdata", "liblonely"}
    assert set(names(inventory, requested=("tzdata",))) == {"liblonely"}


def test_two_that_only_use_each_other_are_one_finding() -> None:
    one, two = elf("/l/libone.so", needed=("libtwo.so",)), elf("/l/libtwo.so", needed=("libone.so",))
    found = names(image({}, elfs=[one, two]))
    assert len(found) == 1
    assert next(iter(found.values())).bytes == 2000


def test_allowed_names_are_no_finding() -> None:
    lonely = subject(image({}, elfs=[elf("/l/liba.so")]), rules=Rules(least_mb=0, allow=("liba",)))
    assert list(users.unused(lonely)) == []


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=20))
def test_units_without_users_are_counted_once(edges: list[tuple[int, int]]) -> None:
    libs = [elf(f"/l/lib{n}.so", needed=tuple(f"lib{to}.so" for at, to in edges if at == n)) for n in range(8)]
    graph = users.Graph(subject(image({}, elfs=libs)))
    found = graph.unused()
    assert sum(each.bytes for each in found) == 8000  # nothing is asked for, so nothing has users
    parts = [name for each in found for name, _ in each.parts]
    assert len(parts) == len(set(parts)) == 8


# --- A8, A9, A22


def test_symbols_of_files_that_strip_would_break_do_not_count() -> None:
    elfs = [
        elf("/l/liba.so", symtab_bytes=3 * MB, debug_bytes=MB),
        elf("/l/libpatched.so", symtab_bytes=9 * MB, patched=True),
        elf(f"{SITE}/numpy.libs/libb.so", symtab_bytes=9 * MB),
        elf("/l/x.o", type="rel", symtab_bytes=9 * MB),
    ]
    assert only(binaries.symbols(subject(image({}, elfs=elfs)))).bytes == 4 * MB


@pytest.mark.parametrize(
    ("code", "target", "how"),
    [
        (("sm_87",), "sm_87", "native"),
        (("sm_80", "sm_90"), "sm_87", ""),  # neither between Tegra parts and desktop ones
        (("sm_80",), "sm_86", "native"),
        (("sm_86",), "sm_80", ""),
        (("compute_80",), "sm_87", "jit"),
        (("compute_90",), "sm_87", ""),
        (("sm_72",), "sm_87", ""),
        (("sm_90a",), "sm_90", "native"),
        (("sm_90a",), "sm_91", ""),
        (("compute_90a",), "sm_100", ""),
        (("sm_100f",), "sm_103", "native"),
        (("sm_90", "compute_90"), "sm_120", "jit"),
        ((), "sm_87", ""),
    ],
)
def test_what_a_gpu_can_run(code: tuple[str, ...], target: str, how: str) -> None:
    assert binaries.runs(code, target) == how


def test_code_for_other_gpus() -> None:
    elfs = [
        elf(f"{SITE}/flash/a.so", gpu=("sm_80", "sm_90")),
        elf(f"{SITE}/flash/b.so", gpu=("sm_80",)),
        elf("/l/libjit.so", gpu=("compute_80",)),
        elf("/l/libgood.so", gpu=("sm_50", "sm_87")),
        elf("/l/libplain.so"),
    ]
    inventory = image({}, elfs=elfs, distributions=(wheel("flash-attn", "flash/a.so", "flash/b.so"),))
    found = {each.subject: each for each in binaries.gpu_code(subject(inventory, gpu_arch="sm_87"))}
    assert said(found.values()) == {"error python:flash-attn", "warning /l/libjit.so"}
    assert found["python:flash-attn"].bytes == 2000
    with pytest.raises(NotMeasured):
        list(binaries.gpu_code(subject(inventory)))


def cv2(*needed: str) -> Inventory:
    return image(
        {}, elfs=[elf(f"{SITE}/cv2/cv2.abi3.so", needed=needed), elf("/l/libcore.so", needed=("libgstapp-1.0.so.0",))]
    )


def test_what_opencv_lost() -> None:
    baseline = cv2("libcudart.so.12", "libcore.so")
    assert said(binaries.opencv(subject(cv2("libcore.so"), baseline=baseline))) == {"warning CUDA"}
    assert said(binaries.opencv(subject(cv2("libcudart.so.12"), baseline=baseline))) == {"warning GStreamer"}
    assert list(binaries.opencv(subject(baseline, baseline=baseline))) == []
    with pytest.raises(NotMeasured):
        list(binaries.opencv(subject(image({}), baseline=baseline)))


# --- A10


def test_what_only_builds_or_is_read() -> None:
    inventory = image(
        {
            "/usr/bin/gcc": 9, "/usr/include/a.h": 5, "/usr/include/stdio.h": 7, f"{SITE}/torch/include/c10/x.h": 3,
            "/usr/lib/libx.a": 4, f"{SITE}/sympy/core/tests/test_a.py": 2, f"{SITE}/torch/testing/x.py": 90,
            "/usr/share/doc/x/README": 6, "/usr/share/doc/x/copyright": 90, "/root/.cache/pip/x": 8, "/var/log/apt/x": 1,
            "/usr/local/cuda-12/bin/nvcc": 20, f"{SITE}/cmake/data/cmake": 30,
        },
        packages=(
            package("gcc-12", section="devel", files=("/usr/bin/gcc",)),
            package("liba-dev", section="libdevel", files=("/usr/include/a.h",)),
        ),
        distributions=(wheel("cmake", "cmake/data/cmake"),),
    )  # fmt: skip
    found = {each.subject: each.bytes for each in leftovers.leftovers(subject(inventory, rules=Rules(least_mb=0)))}
    assert found == {
        "build packages": 9 + 5 + 30, "build programs": 20, "headers": 7 + 3, "static libraries": 4, "tests": 2,
        "documentation": 6, "caches": 8, "logs": 1,
    }  # fmt: skip


def test_what_is_allowed_stays() -> None:
    inventory = image(
        {"/usr/bin/gcc": 9, "/usr/lib/libx.a": 4},
        packages=(package("gcc-12", section="devel", files=("/usr/bin/gcc",)),),
    )
    rules = Rules(least_mb=0, allow=("gcc-*", "*.a"))
    assert list(leftovers.leftovers(subject(inventory, rules=rules))) == []


# --- A11, A17


def test_files_that_are_gone() -> None:
    inventory = image(
        {f"{SITE}/a/x.py": 1, "/usr/lib/liba.so": 1, "/lib": "-> usr/lib", "/bin/sh.distrib": 1},
        distributions=(wheel("a", "a/x.py", "a/docs/code.py", "a/__pycache__/x.pyc"), wheel("b", "b/logo.png")),
        packages=(
            package("liba", files=("/lib/liba.so", "/usr/share/doc/liba/copyright", "/usr/share/man/man1/a.1.gz")),
            package("dash", files=("/bin/sh",)),
            package("tool", files=("/usr/bin/tool",)),
        ),
        texts={"/var/lib/dpkg/diversions": "/bin/sh\n/bin/sh.distrib\nbash\n"},
    )
    assert said(packages.gone(subject(inventory))) == {"error a", "warning b", "error tool"}


def test_a_list_that_does_not_say_is_no_finding() -> None:
    assert list(packages.gone(subject(image({}, distributions=(wheel("a", files=None),))))) == []


def test_files_that_were_pruned_on_purpose_are_not_gone() -> None:
    inventory = image({}, distributions=(wheel("a", "a/tests/x.py"),))
    assert list(packages.gone(subject(inventory, pruned=(f"{SITE.lstrip('/')}/a/**/tests", f"{SITE}/a/tests")))) == []


def test_requirements_that_do_not_fit() -> None:
    torch = wheel("torch", version="2.8.0")
    vision = wheel("torchvision", requires=("torch==2.9.0", 'scipy; extra == "scipy"', "gone>1", "nvidia-x==1"))
    inventory = image({}, distributions=(torch, vision))
    found = packages.versions(subject(inventory, provided=("nvidia-*",)))
    assert said(found) == {"error torchvision -> torch", "warning torchvision -> gone"}


@pytest.mark.parametrize("python", [None, "3.12", "abc"])
@pytest.mark.parametrize("marker", ['os_name ~= "posix"', 'python_version ~= "x"', 'os_name < "a" and extra == "b"'])
def test_requirements_whose_condition_has_no_meaning_are_not_applied(marker: str, python: str | None) -> None:
    inventory = image({}, distributions=(wheel("a", requires=(f"gone; {marker}", "lost")),))
    found = packages.versions(subject(inventory, versions={"python": python}))
    assert said(found) == {"warning a -> lost"}


@pytest.mark.parametrize(
    "report",
    ["[" * 60_000, "[]", '{"versions": {"python": 3}, "checks": []}', '{"versions": {}, "checks": [1, 2]}'],
)
def test_a_report_in_an_image_that_is_not_the_probes_is_not_believed(report: str) -> None:
    made = subject(image({}, texts={probe_report.PLACE: report}))
    assert subjects._measured(made) == made


def test_the_probes_report_in_an_image_is_believed() -> None:
    report = '{"versions": {"python": "3.12", "gpu": null}, "checks": [{"name": "x", "status": "ok"}]}'
    made = subjects._measured(subject(image({}, texts={probe_report.PLACE: report})))
    assert (made.versions, made.checks) == ({"python": "3.12", "gpu": None}, (ImageCheck(name="x", status="ok"),))


@pytest.mark.parametrize(
    ("compiled", "present", "fit"),
    [
        ("9.8", "9.3.0", False),
        ("9.3", "9.10.2", True),
        ("8.9", "9.0", False),
        ("9.10.2", "9.10.1", True),
        ("?", "9", True),
    ],
)
def test_compiled_against_and_present(compiled: str, present: str, fit: bool) -> None:
    assert version_sources.fits(present, made_for=compiled) is fit
    known = {"cudnn_compiled": compiled, "cudnn": present}
    inventory = image({}, distributions=(wheel("torch"),))
    assert said(packages.versions(subject(inventory, versions=known))) == (set() if fit else {"error libcudnn.so"})


def test_versions_out_of_a_wheel_and_a_file_name() -> None:
    torch = wheel("torch", requires=('nvidia-cudnn-cu12==9.10.2.21; platform_system == "Linux"',))
    old = image({}, elfs=[elf("/l/libcudnn.so.9.1.0", soname="libcudnn.so.9")], distributions=(torch,))
    assert said(packages.versions(subject(old, provided=("nvidia-*",)))) == {"error libcudnn.so"}


def test_what_a_wheel_wants_on_another_machine_counts_for_nothing() -> None:
    torch = wheel("torch", requires=('nvidia-cudnn-cu12==9.10.2.21; platform_machine == "aarch64"',))
    old = image({}, elfs=[elf("/l/libcudnn.so.9.1.0", soname="libcudnn.so.9")], distributions=(torch,))
    assert said(packages.versions(subject(old, provided=("nvidia-*",)))) == set()


def test_an_older_cuda_of_the_same_major_version_is_a_warning() -> None:
    inventory = image({}, distributions=(wheel("torch"),))
    known = {"torch_cuda": "12.8", "cuda_runtime": "12.6.77"}
    assert said(packages.versions(subject(inventory, versions=known))) == {"warning libcudart.so"}
    assert said(packages.versions(subject(inventory, versions={**known, "torch_cuda": "13.0"}))) == {
        "error libcudart.so"
    }


def test_what_was_expected_and_what_failed() -> None:
    checks = (ImageCheck(name="gdal", status="failed", detail="x"), ImageCheck(name="torch", status="ok"))
    inventory = image({}, distributions=(wheel("a"),))
    known = {"expected": {"numpy": "1.26", "gdal": "3"}, "versions": {"numpy": "2.0", "gdal": None}, "checks": checks}
    assert said(packages.versions(subject(inventory, **known))) == {"error numpy", "error gdal"}
    with pytest.raises(NotMeasured):
        list(packages.versions(subject(image({}))))


# --- A13, A16


def test_paths_of_the_build() -> None:
    own, theirs, config, debian = "/opt/app/x.conf", f"{SITE}/a/x.py", f"{SITE}/cv2/config.py", "/usr/lib/x.py"
    inventory = image(
        dict.fromkeys((own, theirs, config, debian, "/root/.bashrc"), 1),
        mentions=(
            *(Mention(path=path, line=3, text="/build/x") for path in (own, theirs, config, debian)),
            Mention(path=own, line=9, text="/root/.bashrc"),
        ),
        distributions=(wheel("a", "a/x.py"), wheel("cv2", "cv2/config.py")),
        packages=(package("x", files=(debian,)),),
    )
    assert said(data.remains(subject(inventory))) == {f"warning {own}", f"warning {config}", "note Python packages"}


def test_links_that_lead_nowhere() -> None:
    links: dict[str, str | int | File] = {
        "/usr/lib/liba.so": "-> liba.so.1", "/etc/x": "-> gone", "/etc/mtab": "-> /proc/mounts",
        "/usr/share/doc/a/b": "-> gone", "/etc/alternatives/awk.1.gz": "-> /usr/share/man/x", "/usr/bin/a": "-> b",
        "/usr/bin/b": "-> /bin/c", "/bin/c": 5,
    }  # fmt: skip
    assert said(data.remains(subject(image(links)))) == {"warning /usr/lib/liba.so", "note /etc/x"}


def test_scripts_whose_interpreter_is_gone() -> None:
    scripts = {
        "/usr/bin/a": "/opt/gone/python",
        "/usr/bin/b": "/usr/bin/env -S python3 -u",
        "/usr/lib/c": "/usr/bin/perl",
        "/usr/bin/d": "",
    }
    inventory = image(dict.fromkeys((*scripts, "/usr/bin/python3"), 1), interpreters=scripts)
    assert said(data.remains(subject(inventory))) == {"error /usr/bin/a", "note /usr/lib/c"}


WHOLE = {
    "/usr/local/bin/x": 1,
    "/usr/bin/x": 1,
    "/bin/x": 1,
    "/usr/share/zoneinfo/Europe/Berlin": 1,
    "/etc/ssl/certs/ca-certificates.crt": 1,
}


def test_data_that_is_there() -> None:
    assert list(data.missing_data(subject(image(WHOLE)))) == []
    bare = {path: size for path, size in WHOLE.items() if path.endswith("/x")}
    assert said(data.missing_data(subject(image(bare)))) == {"error time zones", "error certificates"}
    zones = image({**bare, "/etc/ssl/certs/ca-certificates.crt": 0}, distributions=(wheel("tzdata"),))
    assert said(data.missing_data(subject(zones))) == {"error certificates"}


def test_data_of_libraries() -> None:
    elfs = [
        elf("/usr/local/lib/libgdal.so.36"),
        elf("/usr/lib/x86_64-linux-gnu/libproj.so.25"),
        elf("/usr/lib/libfontconfig.so.1"),
    ]
    assert said(data.missing_data(subject(image(WHOLE, elfs=elfs)))) == {
        "error PROJ's database", "warning GDAL's data", "note fonts",
    }  # fmt: skip
    there = {"/usr/share/proj/proj.db": 1, "/usr/local/share/gdal/a.json": 1, "/usr/share/fonts/a.ttf": 1}
    assert list(data.missing_data(subject(image({**WHOLE, **there}, elfs=elfs)))) == []


def test_variables_that_point_at_nothing() -> None:
    env = {
        "PATH": "/gone/bin:/usr/bin",
        "GDAL_DATA": "/gone",
        "LANG": "C.UTF-8",
        "URL": "http://x/y",
        "T": "/tmp/x",
        "OK": "/usr/bin",
    }
    inventory = image({**WHOLE, "/usr/bin/x": 1}, settings=Settings(env=env))
    assert said(data.missing_data(subject(inventory))) == {"note PATH=/gone/bin", "warning GDAL_DATA=/gone"}


# --- A14, A15


def configured(entries: dict[str, Any] | None = None, **settings: Any) -> Inventory:
    env = {"PATH": "/usr/bin", **settings.pop("env", {})}
    return image(entries or {"/usr/bin/x": 1}, settings=Settings(env=env, **settings))


def test_images_that_are_configured_alike() -> None:
    same = configured(env={"NVIDIA_VISIBLE_DEVICES": "all"}, cmd=("bash",))
    assert list(configuration.settings(subject(same, baseline=same))) == []
    with pytest.raises(NotMeasured):
        list(configuration.settings(subject(same)))


def test_other_words_for_the_same_are_no_difference() -> None:
    one, two = configured(user="0", workdir=""), configured(user="", workdir="/")
    assert list(configuration.settings(subject(one, baseline=two))) == []
    assert said(configuration.settings(subject(one, baseline=configured(workdir="/app")))) == {"warning workdir"}


def test_what_an_image_lost_of_the_baselines_configuration() -> None:
    baseline = configured(
        env={"NVIDIA_VISIBLE_DEVICES": "all", "NVIDIA_REQUIRE_CUDA": "x", "LD_LIBRARY_PATH": "/l", "HOME": "/h"},
        user="app",
    )
    found = configuration.settings(subject(configured(env={"LD_PRELOAD": "/x.so"}), baseline=baseline))
    assert said(found) == {
        "error NVIDIA_VISIBLE_DEVICES", "warning NVIDIA_REQUIRE_CUDA", "warning LD_LIBRARY_PATH", "note HOME",
        "warning LD_PRELOAD", "warning user",
    }  # fmt: skip


def test_folders_that_are_searched_no_more() -> None:
    entries = {"/usr/bin/x": 1, "/opt/bin/y": 1, "/l/liba.so": 1}
    baseline = image(entries, settings=Settings(env={"PATH": "/usr/bin:/opt/bin:/no/bin"}), loader_dirs=("/l", "/no"))
    own = image(entries, settings=Settings(env={"PATH": "/usr/bin"}))
    assert said(configuration.settings(subject(own, baseline=baseline))) == {"warning PATH", "warning ld.so.conf"}


def test_commands_that_others_start() -> None:
    def at(*names: str) -> Inventory:
        return configured({f"/usr/bin/{n}": File(path=f"/usr/bin/{n}", kind="file", size=1, mode=0o755) for n in names})

    own, baseline = at("sh"), at("sh", "lsmod", "gcc", "aclocal")
    assert said(configuration.commands(subject(own, baseline=baseline))) == {"warning lsmod", "note commands"}
    triton = Inventory(
        **{**{f: getattr(own, f) for f in own.__dataclass_fields__}, "distributions": (wheel("triton"),)}
    )
    assert said(configuration.commands(subject(triton, baseline=baseline))) == {
        "warning lsmod", "warning gcc", "note commands",
    }  # fmt: skip
    assert list(configuration.commands(subject(baseline, baseline=baseline))) == []


def test_an_elf_is_what_the_tests_think() -> None:
    assert isinstance(elf("/a"), Elf)
