"""Name files that no package's list has, by whoever is known to write them: patterns for `attribution`."""

from __future__ import annotations

# What a package's maintainer scripts, triggers and programs write, by the package whose they are. Counts only where
# that package is installed.
WRITTEN_BY = (
    ("/etc/ld.so.cache", "libc-bin"),
    ("/var/cache/ldconfig/*", "libc-bin"),
    ("/etc/nsswitch.conf", "base-files"),
    ("/etc/dpkg/origins/*", "base-files"),
    ("/etc/profile", "base-files"),
    ("/etc/motd", "base-files"),
    ("/etc/inputrc", "readline-common"),
    ("/var/log/[bw]tmp", "base-files"),
    ("/var/log/lastlog", "base-files"),
    ("/var/log/faillog", "base-files"),
    ("/root/.bashrc", "base-files"),
    ("/root/.profile", "base-files"),
    ("/usr/share/info/dir", "install-info"),
    ("/usr/share/info/dir", "base-files"),
    ("/etc/passwd", "base-passwd"),
    ("/etc/group", "base-passwd"),
    ("/etc/shadow", "base-passwd"),
    ("/etc/gshadow", "base-passwd"),
    ("/etc/subuid", "passwd"),
    ("/etc/subgid", "passwd"),
    ("/etc/.pwd.lock", "passwd"),
    ("/etc/shells", "debianutils"),
    ("/var/lib/shells.state", "debianutils"),
    ("/etc/security/opasswd", "libpam-modules"),
    ("/etc/pam.d/common-*", "libpam-runtime"),
    ("/var/lib/pam/*", "libpam-runtime"),
    ("/etc/ssl/certs/*", "ca-certificates"),
    ("/etc/ca-certificates.conf", "ca-certificates"),
    ("/etc/timezone", "tzdata"),
    ("/etc/localtime", "tzdata"),
    ("/usr/lib/locale/locale-archive", "locales"),
    ("/var/lib/dpkg/*", "dpkg"),
    ("/var/log/dpkg.log", "dpkg"),
    ("/var/log/alternatives.log", "dpkg"),
    ("/var/lib/apt/*", "apt"),
    ("/var/cache/apt/*", "apt"),
    ("/var/log/apt/*", "apt"),
    ("/etc/apt/*", "apt"),
    ("/var/cache/debconf/*", "debconf"),
    ("/var/lib/ucf/*", "ucf"),
    ("/var/cache/fontconfig/*", "fontconfig"),
    ("/usr/share/mime/*", "shared-mime-info"),
    ("/usr/share/glib-2.0/schemas/gschemas.compiled", "libglib2.0-0"),
    ("/usr/share/glib-2.0/schemas/gschemas.compiled", "libglib2.0-0t64"),
    ("/usr/lib/*/gio/modules/giomodule.cache", "libglib2.0-0"),
    ("/usr/lib/*/gdk-pixbuf-2.0/*/loaders.cache", "libgdk-pixbuf-2.0-0"),
    ("/var/lib/systemd/deb-systemd-*", "init-system-helpers"),
    ("/var/lib/systemd/*", "systemd"),
    ("/etc/machine-id", "systemd"),
    ("/var/lib/dbus/machine-id", "dbus"),
    ("/etc/ssh/ssh_host_*", "openssh-server"),
    ("/usr/share/applications/mimeinfo.cache", "desktop-file-utils"),
    ("/var/lib/python/*", "python3"),
    ("/etc/python3/debian_config", "python3-minimal"),
    ("/etc/odbcinst.ini", "unixodbc-common"),
)

# What makes a system out of packages: written by whoever made the base, and by no package.
BASE_FILES = (
    "/etc/hostname",
    "/etc/hosts",
    "/etc/resolv.conf",
    "/etc/fstab",
    "/etc/environment",
    "/etc/machine-id",
    "/etc/locale.conf",
    "/etc/default/locale",
    "/etc/apt/*",
    "/etc/dpkg/dpkg.cfg.d/*",
    "/etc/passwd",
    "/etc/group",
    "/etc/shadow",
    "/etc/gshadow",
    "/etc/subuid",
    "/etc/subgid",
    "/etc/ld.so.conf.d/*cuda*.conf",
    "/etc/ld.so.conf.d/*tegra*.conf",
    "/etc/ld.so.cache",
    "/etc/nv_tegra_release",
    "/.dockerenv",
)

# A virtual environment's own files, below the folder that has its pyvenv.cfg (venv, virtualenv, uv).
VENV_FILES = (
    "pyvenv.cfg",
    "bin/activate*",
    "bin/Activate.ps1",
    "bin/deactivate*",
    "bin/pydoc.bat",
    "bin/python*",
    "lib/python*/site-packages/_virtualenv.p*",
    ".gitignore",
    ".lock",
    "CACHEDIR.TAG",
)

# An interpreter that no package brought, below its prefix: one that has lib/pythonX.Y/os.py.
PYTHON_FILES = (
    "lib/python{version}/*",
    "lib/libpython{version}*",
    "lib/libpython3.so",
    "lib/pkgconfig/python*",
    "include/python{version}*",
    "bin/python*",
    "bin/pydoc*",
    "bin/idle*",
    "bin/2to3*",
    "share/man/man1/python*",
)

# NVIDIA's and GDAL's files that stand outside /usr/local/cuda*, and that no list names: their names are theirs alone.
CUDA_NAMES = ("*/libcudnn*", "*/include/*cudnn*.h", "*/libnvinfer*", "*/libnvonnxparser*", "*/libcupti*", "*/libnccl*")
GDAL_NAMES = ("*/libgdal.so*", "*/share/gdal/*", "*/gdalplugins/*")
