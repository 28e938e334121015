"""Ways to break the rehearsal's image cuda, one for each check, and what the audit must then find more; no more, no less.

Used by tests/engine/test_audit.py, which builds each on the real image, and by tests/unit/test_audit_docs.py, which holds
docs/audit.md to this table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

LIB = "/usr/lib/x86_64-linux-gnu"
CUDA = "/usr/local/cuda-12.6/targets/x86_64-linux/lib"
SITE = "/opt/venv/lib/python3.11/site-packages"

# Rewrites every entry of a fat binary into machine code for sm_53: magic, version, header, size; entries of kind, ?, header,
# payload ... and at 28 the architecture.
FOR_ANOTHER_GPU = """
import struct, pathlib
path = pathlib.Path("/opt/venv/lib/python3.11/site-packages/torchvision/_C.so")
data, at = bytearray(path.read_bytes()), 0
while (at := data.find(b"\\x50\\xed\\x55\\xba", at)) >= 0:
    header, length = struct.unpack_from("<HQ", data, at + 6)
    entry, end = at + header, at + header + length
    while 0 < length < 1 << 30 and entry + 32 <= end:
        size, payload = struct.unpack_from("<IQ", data, entry + 4)
        struct.pack_into("<H", data, entry, 2)
        struct.pack_into("<I", data, entry + 28, 53)
        entry += size + payload
    at += 4
path.write_bytes(data)
"""


@dataclass(frozen=True, kw_only=True)
class Break:
    """``lines``: of a Dockerfile after `FROM jetpare/cuda:rehearsal`; {image} and {baseline} are the real images.

    ``expected``: 'check severity subject' of every finding that is new. ``baseline``: lines that change the baseline
    instead. ``known``: fields of the Subject, for the good image too.
    """

    name: str
    what: str  # as a person says it
    lines: str = ""
    expected: frozenset[str]
    before: str = ""  # stages above
    baseline: str = ""
    known: Mapping[str, Any] = field(default_factory=dict)

    @property
    def check(self) -> str:
        """The check that this proves."""
        return self.name.split("-")[0].upper()


BREAKS = (
    Break(
        name="a1-cupti",
        what="remove libcupti",
        lines=f"RUN rm {CUDA}/libcupti.so*",
        expected=frozenset(
            {"A1 error libcupti.so.12", "A4 error usr/local/cuda/targets/x86_64-linux/lib/libcupti*.so*"}
        ),
    ),
    Break(
        name="a1-version",
        what="put a library that wants a newer glibc",
        lines=f"RUN sed -i 's/GLIBC_2\\.34/GLIBC_2.94/' {LIB}/libproj.so.25.*",
        expected=frozenset({f"A1 error {LIB}/libc.so.6 GLIBC_2.94"}),
    ),
    Break(
        name="a2-provider",
        what="add a provider that needs what is not there",
        lines=f"RUN sed 's/libc\\.so\\.6/libq.so.6/g; s/libz\\.so\\.1/libv.so.1/g' {LIB}/libz.so.1 > {SITE}/libprovider.so",
        expected=frozenset({"A2 error libq.so.6"}),
    ),
    Break(
        name="a3-builtins",
        what="remove libnvrtc-builtins",
        lines=f"RUN rm {CUDA}/libnvrtc-builtins.so*",
        expected=frozenset({"A3 error libnvrtc-builtins.so.12.6"}),
    ),
    Break(
        name="a4-copy",
        what="a COPY whose pattern matches nothing",
        lines="COPY --from={image} /opt/no-such-file* /opt/",
        expected=frozenset({"A4 error COPY /opt/no-such-file* /opt/"}),
    ),
    Break(
        name="a5-copies",
        what="replace a link of cuDNN by a copy",
        lines=f"RUN cp --remove-destination $(readlink -f {LIB}/libcudnn_cnn.so.9) {LIB}/libcudnn_cnn.so.9",
        expected=frozenset({f"A5 warning {LIB}/libcudnn_cnn.so.9"}),
    ),
    Break(
        name="a6-deleted",
        what="delete in a later layer",
        lines="RUN head -c 70000000 /dev/urandom > /opt/download\nRUN rm /opt/download",
        expected=frozenset({"A6 warning layers"}),
    ),
    Break(
        name="a7-nobody",
        what="add a library that nobody uses",
        lines=f"RUN sed 's/libproj\\.so\\.25/libnone.so.25/' {LIB}/libproj.so.25 > /usr/local/lib/libnone.so.25",
        expected=frozenset({"A7 note libnone"}),
    ),
    Break(
        name="a8-symbols",
        what="replace a library by one with its debug sections",
        before="FROM {baseline} AS tools\nRUN head -c 3000000 /dev/urandom > /opt/debug && "
        f"objcopy --add-section .debug_info=/opt/debug {LIB}/libz.so.1 /opt/libz.so",
        lines=f"COPY --from=tools /opt/libz.so {LIB}/libz.so.1.2.13",
        expected=frozenset({"A8 note symbols"}),
    ),
    Break(
        name="a9-gpu",
        what="give torchvision code for another GPU only",
        lines="COPY <<'EOF' /tmp/patch.py\n" + FOR_ANOTHER_GPU + "EOF\nRUN python3 /tmp/patch.py && rm /tmp/patch.py",
        known={"gpu_arch": "sm_90"},
        expected=frozenset({"A9 error python:torchvision"}),
    ),
    Break(
        name="a10-cache",
        what="leave a cache",
        lines="RUN mkdir -p /root/.cache/pip && head -c 5000000 /dev/urandom > /root/.cache/pip/wheel",
        expected=frozenset({"A10 warning caches"}),
    ),
    Break(
        name="a11-record",
        what="delete a module of a wheel",
        lines=f"RUN rm {SITE}/sympy/core/add.py",
        expected=frozenset({"A11 error sympy"}),
    ),
    Break(
        name="a12-cpu",
        what="put a +cpu torch",
        lines=f"RUN sed -i 's/^Version: 2.8.0$/Version: 2.8.0+cpu/' {SITE}/torch-2.8.0.dist-info/METADATA",
        expected=frozenset({"A12 error torch"}),
    ),
    Break(
        name="a13-path",
        what="leave a path of the build in a file",
        lines=f"""RUN mkdir {SITE}/cv2 && echo 'BINARIES_PATHS = ["/build/opencv/lib"]' > {SITE}/cv2/config.py""",
        expected=frozenset({f"A13 warning {SITE}/cv2/config.py"}),
    ),
    Break(
        name="a13-script",
        what="a command whose interpreter is not there",
        lines="RUN printf '#!/opt/gone/bin/python\\n' > /usr/local/bin/serve && chmod +x /usr/local/bin/serve",
        expected=frozenset({"A13 error /usr/local/bin/serve"}),
    ),
    Break(
        name="a13-link",
        what="a link that leads nowhere",
        lines="RUN ln -s libgone.so.1 /usr/local/lib/libgone.so",
        expected=frozenset({"A13 warning /usr/local/lib/libgone.so"}),
    ),
    Break(
        name="a14-nvidia",
        what="lose NVIDIA_VISIBLE_DEVICES",
        lines="ENV NVIDIA_VISIBLE_DEVICES=",
        expected=frozenset({"A14 error NVIDIA_VISIBLE_DEVICES"}),
    ),
    Break(
        name="a15-lsmod",
        what="lack lsmod, which the baseline has",
        baseline="RUN printf '#!/bin/sh\\n' > /usr/local/bin/lsmod && chmod +x /usr/local/bin/lsmod",
        expected=frozenset({"A15 warning lsmod"}),
    ),
    Break(
        name="a16-tzdata",
        what="drop tzdata",
        lines="RUN dpkg --purge --force-all tzdata",
        expected=frozenset({"A16 error time zones"}),
    ),
    Break(
        name="a16-variable",
        what="set a variable to a folder that is not there",
        lines="ENV SSL_CERT_DIR=/build/certs",
        expected=frozenset({"A16 warning SSL_CERT_DIR=/build/certs"}),
    ),
    Break(
        name="a17-torch",
        what="put a torchvision that wants another torch",
        lines=f"RUN sed -i 's/^Requires-Dist: torch (==2.8.0)/Requires-Dist: torch (==2.9.0)/' {SITE}/torchvision-0.23.0.dist-info/METADATA",
        expected=frozenset({"A17 error torchvision -> torch"}),
    ),
    Break(
        name="a22-cv2",
        what="a cv2 that lost CUDA, which the baseline's has",
        lines=f"RUN mkdir {SITE}/cv2 && sed 's/libz\\.so\\.1/libv.so.1/' {LIB}/libz.so.1 > {SITE}/cv2/cv2.abi3.so",
        baseline=f"RUN mkdir {SITE}/cv2 && sed 's/libc10_cuda/libcv2_cuda/' {SITE}/torch/lib/libc10_cuda.so > {SITE}/cv2/cv2.abi3.so",
        expected=frozenset({"A22 warning CUDA"}),
    ),
    Break(
        name="a23-budget",
        what="grow over the budget",
        lines="RUN head -c 30000000 /dev/urandom > /opt/model",
        known={"budget": 5_430_000_000},
        expected=frozenset({"A23 error budget"}),
    ),
)
