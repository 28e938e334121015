"""Names of libraries that an image rightly lacks: what a Jetson mounts into its containers, and what code does without.

Each entry is a name or a glob, with the reason. build.toml adds to the first table by [audit] host_libraries.
"""

from __future__ import annotations

from collections.abc import Mapping

# What drivers.csv in /etc/nvidia-container-runtime/host-files-for-container.d mounts, by the package of Jetson Linux that
# brings the files (L4T r36.4). Names, not patterns like libnv*: CUDA has libnvrtc, libnvinfer, libnvjpeg.so.12 of its own.
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
        libjetsonpower.so libnvcolorutil.so libnvdc.so libnvddk_2d_v2.so libnvddk_vic.so libnvdla_runtime.so libnvfnet*.so
        libnvgov_*.so libnvidia-rmapi-tegra.so.* libnvidia-tls.so.* libnvimp.so libnvisp_utils.so libnvos.so libnvphs.so
        libnvphsd.so libnvpva.so libnvpva_algorithms.so libnvpvaumd.so libnvrm_*.so libnvsciipc.so libnvsocsys.so
        libnvtegrahv.so libnvvic.so
    """,
    "nvidia-l4t-multimedia": """
        libnvbufsurftransform.so* libnvcuvidv4l2.so libnvdecode2eglimage.so libnvdsbufferpool.so* libnveventlib.so
        libnvexif.so libnvid_mapper.so* libnvjpeg.so libnvmedia*.so libnvmm*.so libnvofsdk.so libnvoggopus.so libnvomx*.so
        libnvosd.so libnvparser.so libnvtracebuf.so libnvtvmr*.so libnvv4l2.so libnvv4lconvert.so libnvvideo.so
        libnvvideoencode_ppe.so libtegrav4l2.so libv4l2_nv*.so
    """,
    "nvidia-l4t-multimedia-utils": """
        libnvbuf_fdmap.so* libnvbufsurface.so*
    """,
    "nvidia-l4t-camera": """
        libnvargus*.so libnvcam*.so libnvcapture.so libnvfusacap*.so libnvisp.so libnvisppg.so libnvodm_imager.so libnvscf.so
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
# libnvdla_compiler.so is left out on purpose: drivers.csv names it, but a host has it only with nvidia-l4t-dla-compiler,
# which JetPack 6.2 does not bring by itself. A host that has it can say so in build.toml.

HOST_LIBRARIES: Mapping[str, str] = {
    name: f"{package}, by drivers.csv" for package, names in _DRIVERS_CSV.items() for name in names.split()
}

# Names that code hands to dlopen and does without, whatever the image.
OPTIONAL_LIBRARIES: Mapping[str, str] = {}
