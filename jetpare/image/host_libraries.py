"""Names of libraries that an image rightly lacks: what a Jetson mounts into its containers, and what code does without.

Each entry is a name or a glob, with the reason. build.toml adds to the first table by [audit] host_libraries.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

# What drivers.csv in /etc/nvidia-container-runtime/host-files-for-container.d mounts, by the package of Jetson Linux
# that brings the files (L4T r36.4). No pattern like libnv*: libnvrtc, libnvinfer, libnvjpeg.so.12 are the image's own.
_DRIVERS_CSV = {
    "nvidia-l4t-cuda": """
        libcuda.so libcuda.so.1 libcuda.so.1.1 libnvcucompat.so libnvcudla.so
    """,
    "nvidia-l4t-nvml": """
        libnvidia-ml.so.1
    """,
    "nvidia-l4t-3d-core": """
        libGLX_nvidia.so.0 libEGL_nvidia.so.0 libGLESv1_CM_nvidia.so.1 libGLESv2_nvidia.so.2
        libnvidia-eglcore.so.* libnvidia-glcore.so.* libnvidia-glsi.so.* libnvidia-glvkspirv.so.* libnvidia-gpucomp.so.*
        libnvidia-nvvm.so.* libnvidia-ptxjitcompiler.so.* libnvidia-rtcore.so.*
    """,
    "nvidia-l4t-core": """
        libjetsonpower.so libnvcolorutil.so libnvdc.so libnvddk_2d_v2.so libnvddk_vic.so libnvdla_runtime.so
        libnvfnet*.so libnvgov_*.so libnvidia-rmapi-tegra.so.* libnvidia-tls.so.* libnvimp.so libnvisp_utils.so
        libnvos.so libnvphs.so libnvphsd.so libnvpva.so libnvpva_algorithms.so libnvpvaumd.so libnvrm_*.so
        libnvsciipc.so libnvsocsys.so
        libnvtegrahv.so libnvvic.so
    """,
    "nvidia-l4t-multimedia": """
        libnvbufsurftransform.so* libnvcuvidv4l2.so libnvdecode2eglimage.so libnvdsbufferpool.so* libnveventlib.so
        libnvexif.so libnvid_mapper.so* libnvjpeg.so libnvmedia*.so libnvmm*.so libnvofsdk.so libnvoggopus.so
        libnvomx*.so libnvosd.so libnvparser.so libnvtracebuf.so libnvtvmr*.so libnvv4l2.so libnvv4lconvert.so
        libnvvideo.so libnvvideoencode_ppe.so libtegrav4l2.so libv4l2_nv*.so
    """,
    "nvidia-l4t-multimedia-utils": """
        libnvbuf_fdmap.so* libnvbufsurface.so*
    """,
    "nvidia-l4t-camera": """
        libnvargus*.so libnvcam*.so libnvcapture.so libnvfusacap*.so libnvisp.so libnvisppg.so libnvodm_imager.so
        libnvscf.so
    """,
    "nvidia-l4t-nvsci": """
        libnvscibuf.so* libnvscicommon.so* libnvscievent.so libnvscistream.so* libnvscisync.so*
    """,
    "nvidia-l4t-gbm": """
        libnvidia-allocator.so* libnvidia-egl-gbm.so* nvidia-drm_gbm.so tegra-udrm_gbm.so tegra_gbm.so
    """,
    "nvidia-l4t-gstreamer": """
        libgstnv*.so libnveglstreamproducer.so libnvsample_cudaprocess.so
    """,
    "nvidia-l4t-openwfd": """
        libnvidia-kms.so* libtegrawfd.so
    """,
    "nvidia-l4t-pva": """
        libnvpvaintf.so
    """,
    "nvidia-l4t-vulkan-sc": """
        libnvidia-vksc-core.so*
    """,
    "nvidia-l4t-wayland": """
        libnvidia-egl-wayland.so*
    """,
}
# libnvdla_compiler.so is left out on purpose: drivers.csv names it, but a host has it only with the package
# nvidia-l4t-dla-compiler, which JetPack 6.2 does not bring by itself. A host that has it can say so in build.toml.

HOST_LIBRARIES: Mapping[str, str] = {
    name: f"{package}, by drivers.csv" for package, names in _DRIVERS_CSV.items() for name in names.split()
}


def allowed(own: Iterable[str]) -> Mapping[str, str]:
    """Return what the host mounts, by name or glob -> who says so: the table above, and *own* of build.toml."""
    return {**HOST_LIBRARIES, **dict.fromkeys(own, "[audit] host_libraries")}


@dataclass(frozen=True, kw_only=True)
class Dispensable:
    """Libraries that one file tries to open by name and does without. ``user`` and ``names``: globs of file names."""

    user: str
    names: tuple[str, ...]
    why: str

    def covers(self, user: str, name: str) -> bool:
        """Whether this is about *user*, a path, opening *name*."""
        base = posixpath.basename(name)
        return fnmatchcase(posixpath.basename(user), self.user) and any(fnmatchcase(base, glob) for glob in self.names)


_OPTIONAL = (
    ("*", "libibverbs.so* libmlx5.so* librdmacm.so*", "for RDMA network cards, which a Jetson has not"),
    ("_imagingft*.so", "libfribidi.so*", "for text from right to left"),
    ("ischroot", "libfakechroot.so", "a sign of fakechroot, which it looks for"),
    ("libcudnn_*.so*", "libcask_profile_interface.so", "NVIDIA's own profiler, in no package"),
    ("libcusparseLt.so*", "libcask_profile_interface.so", "NVIDIA's own profiler, in no package"),
    ("libcufile.so*", "libcufile_ck.so liburcu-*.so", "GPUDirect Storage; without it cuFile reads as any program does"),
    (
        "libcupti.so*",
        "libEGL.so* libGL.so* libOpenCL.so* libVulkan_EGL.so* libX11.so* libnvidia-opencl.so* libnvoptix.so*",
        "interfaces that CUPTI observes where the program has loaded them",
    ),
    ("libcupti.so*", "libnvperf_host.so", "for profiles by hardware counters"),
    ("libgdal.so*", "libpython3.*.so", "for pixel functions in Python, by whichever of these versions there is"),
    ("libgdal.so*", "libmdbodbc.so*", "for Microsoft Access files"),
    ("libgprofng.so*", "libjvm.so libmtsk.so", "for profiles of programs in other languages"),
    ("libmount.so*", "libcryptsetup.so*", "for encrypted and verified volumes"),
    ("libncurses*.so*", "libgpm.so*", "for a mouse at a console"),
    ("libnssdbm3.so", "librdb.so", "another format of certificate files"),
    ("libnvjpeg*.so*", "libnvcuvid.so.1", "the decoder of desktop cards' driver, which a Jetson has not"),
    ("libtorch_cpu.so*", "libittnotify.so", "Intel's profiler"),
    ("libtorch_cpu.so*", "libmkl_*.so*", "names of MKL's dynamic build; torch has MKL linked in"),
    ("libtorch_cpu.so*", "libneuralnetworks.so", "Android's"),
    ("libtorch_cpu.so*", "libssl.so*", "for encryption between the machines of a distributed run"),
)
OPTIONAL_LIBRARIES = tuple(
    Dispensable(user=user, names=tuple(names.split()), why=why) for user, names, why in _OPTIONAL
)
