"""A stand-in for the image that bases start from, lifted in seconds from this machine.

No registry of the world can be reached from a test, so the interpreter that runs the tests is
copied, with the shared libraries and the few programs it needs, into a root file system.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from kinetic_flows.images.bases import UPSTREAM
from loopback.containers import Containers

MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"
IMAGE = UPSTREAM.format(python=MINOR)
NAMES = (IMAGE, f"docker.io/library/python:{MINOR}-slim")
"""Its names: what bases start from, and what people's own Dockerfiles do."""

PROGRAMS = (
    *("sh", "bash", "cat", "chmod", "chown", "cp", "env", "find", "grep", "id", "ln", "ls"),
    *("mkdir", "mv", "rm", "sed", "sleep", "tar", "touch", "true", "false", "uname"),
)
LIBRARIES = (
    *("libstdc++.so.6", "libgcc_s.so.1", "libgomp.so.1", "libz.so.1", "libresolv.so.2"),
    *("libnss_dns.so.2", "libnss_files.so.2", "libpthread.so.0", "libdl.so.2", "librt.so.1"),
)
NOT_LIFTED = shutil.ignore_patterns(
    "test", "tests", "idlelib", "turtledemo", "tkinter", "__pycache__", "site-packages",
    "dist-packages", "config-*", "EXTERNALLY-MANAGED", "*.a",
)  # fmt: skip

DOCKERFILE = f"""\
FROM scratch
COPY root/ /
ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8
ENV PYTHON_VERSION={platform.python_version()}
CMD ["python3"]
"""


def lift_python_image(containers: Containers, workspace: Path) -> str:
    """Make the image in the containers' own storage, and return its name."""
    root = workspace / "root"
    _make_skeleton(root)
    _copy_interpreter(root)
    programs = [found for found in map(_which, PROGRAMS) if found]
    for program in programs:
        _copy(program, root)
    extensions = list(_stdlib().glob("lib-dynload/*.so"))
    for library in _libraries_of([Path(sys.executable).resolve(), *programs, *extensions]):
        _copy(library, root)
    _install_pip(root)
    subprocess.run(["/sbin/ldconfig", "-r", str(root)], check=True, capture_output=True)
    (workspace / "Dockerfile").write_text(DOCKERFILE)
    containers.run("buildah", "bud", "--tag", IMAGE, str(workspace))
    shutil.rmtree(root)
    return IMAGE


def _make_skeleton(root: Path) -> None:
    for folder in ("etc/ssl/certs", "proc", "sys", "dev", "run", "root", "home", "opt"):
        (root / folder).mkdir(parents=True)
    for folder in ("usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "usr/local/bin"):
        (root / folder).mkdir(parents=True)
    for folder in ("tmp", "var/tmp"):
        (root / folder).mkdir(parents=True)
        (root / folder).chmod(0o1777)
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    (root / "etc/passwd").write_text(
        "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/bin/sh\n"
    )
    (root / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")
    (root / "etc/nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files dns\n")
    (root / "etc/ld.so.conf").write_text(
        "/usr/local/lib\n/lib/x86_64-linux-gnu\n/usr/lib/x86_64-linux-gnu\n"
    )


def _copy_interpreter(root: Path) -> None:
    """Copy the interpreter and its library to where the image has them."""
    prefix, program = Path(sys.base_prefix), Path(sys.executable).resolve()
    # Debian's own interpreter looks for its library in /usr and nowhere else.
    home = root / "usr" if prefix == Path("/usr") else root / "usr/local"
    (home / "bin").mkdir(exist_ok=True)
    shutil.copy2(program, home / "bin" / f"python{MINOR}")
    for library in prefix.glob(f"lib/libpython{MINOR}*.so*"):
        (home / "lib").mkdir(exist_ok=True)
        shutil.copy2(library, home / "lib")
    shutil.copytree(_stdlib(), home / "lib" / f"python{MINOR}", ignore=NOT_LIFTED, symlinks=True)
    target = f"/{home.relative_to(root)}/bin/python{MINOR}"
    for name in ("python", "python3"):
        (root / "usr/local/bin" / name).symlink_to(target)


def _stdlib() -> Path:
    return Path(sys.base_prefix) / "lib" / f"python{MINOR}"


def _install_pip(root: Path) -> None:
    """Put pip where the lifted interpreter looks for packages."""
    debian = Path(sys.base_prefix) == Path("/usr")
    folder = "usr/lib/python3/dist-packages" if debian else f"usr/local/lib/python{MINOR}"
    target = root / folder / ("" if debian else "site-packages")
    target.mkdir(parents=True, exist_ok=True)
    uv = shutil.which("uv") or str(Path(sys.executable).parent / "uv")
    subprocess.run(
        [uv, "pip", "install", "--quiet", "--python", sys.executable, "--target", target, "pip"],
        check=True,
    )


def _which(name: str) -> Path | None:
    found = shutil.which(name, path="/bin:/usr/bin")
    return Path(found) if found else None


def _copy(source: Path, root: Path) -> None:
    """Copy a file to its own place in another root, following links."""
    text = re.sub(r"^/(bin|sbin|lib|lib64)/", r"/usr/\1/", str(source))
    target = root / text.lstrip("/")
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source.resolve(), target)


def _libraries_of(programs: Iterable[Path]) -> set[Path]:
    """Return every shared library that programs load, and those that wheels expect."""
    listed = subprocess.run(
        ["ldd", *map(str, programs)], capture_output=True, text=True, check=False
    )
    found = {Path(path) for path in re.findall(r"(/\S+\.so\S*) \(0x", listed.stdout)}
    cache = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=True)
    for library in LIBRARIES:
        match = re.search(rf"{re.escape(library)} \(.*x86-64.*\) => (\S+)", cache.stdout)
        if match:
            found.add(Path(match[1]))
    prefix = sys.base_prefix
    return {path for path in found if not (prefix != "/usr" and str(path).startswith(prefix))}
