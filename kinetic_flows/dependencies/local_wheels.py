"""Making the wheel of a package that no public index has.

A wheel is shipped as it is. Everything else (a directory, an archive of sources, a commit of a
repository) is built by uv on this machine, as `uv pip install` would, and the result is
written anew so that the same content is the same bytes on every machine.
"""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from packaging.utils import canonicalize_name, parse_wheel_filename

from kinetic_flows.core import object_names
from kinetic_flows.core.errors import LockError
from kinetic_flows.core.files import copy_atomically, scratch_directory
from kinetic_flows.core.job_parts import Sha256
from kinetic_flows.dependencies.fetch import Fetcher, expanded
from kinetic_flows.dependencies.fit import best_wheel, misfit
from kinetic_flows.dependencies.lockfile import LockedPackage, ShippedWheel
from kinetic_flows.dependencies.pylock import PylockPackage, RemoteFile, VcsSource
from kinetic_flows.dependencies.redaction import Redactor, without_credentials
from kinetic_flows.dependencies.targets import Target
from kinetic_flows.dependencies.uv import Uv

SOURCE_DATE_EPOCH = "315532800"
"""The first moment a zip archive can name, so that a build does not depend on the clock."""

_FIRST_ZIP_MOMENT = (1980, 1, 1, 0, 0, 0)
_GIT_TIMEOUT_SECONDS = 300.0
_SHOWN_BUILD_LINES = 30
_COMMIT = re.compile(r"[0-9a-f]{40,64}")


@dataclass(frozen=True, kw_only=True)
class WheelBuilder:
    """Makes wheels for one target.

    Attributes:
        target: What they must fit.
        uv: Builds them.
        fetcher: Downloads what is on private indexes.
        home: Directory of this machine's caches.
    """

    target: Target
    uv: Uv
    fetcher: Fetcher
    home: Path

    def ship(self, package: PylockPackage) -> LockedPackage:
        """Return a package as a wheel that ships, which is then in this machine's cache.

        Raises:
            LockError: It cannot be built or downloaded, or does not fit the target.
        """
        with scratch_directory(self.home) as scratch:
            wheel = self._wheel(package, scratch)
            reason = misfit(wheel.name, self.target)
            if reason is not None:
                raise LockError(
                    f"{package.name} cannot ship: {reason}",
                    value=wheel.name,
                    hint="publish a wheel for that platform on an index, or ship pure Python",
                )
            return self._keep(package, wheel)

    def _wheel(self, package: PylockPackage, scratch: Path) -> Path:
        if package.directory is not None:
            return self._built(self._here(package.directory), scratch)
        if package.vcs is not None:
            return self._built(self._checkout(package.vcs, scratch), scratch)
        return self._from_file(self._best_file(package), scratch)

    def _best_file(self, package: PylockPackage) -> RemoteFile:
        if package.archive is not None:
            return package.archive
        by_name = {wheel.filename: wheel for wheel in package.wheels}
        best = best_wheel(by_name, self.target)
        if best is not None:
            return by_name[best]
        if package.sdist is not None:
            return package.sdist
        raise LockError(
            f"{package.name} {package.version} has no wheel for {self.target.platform},"
            f" Python {self.target.python}, and no source archive",
            value=package.name,
            hint=f"it has: {', '.join(sorted(by_name)) or 'no files at all'}",
        )

    def _from_file(self, file: RemoteFile, scratch: Path) -> Path:
        kept = self._kept(file)
        if kept is not None:
            return kept
        path = scratch / file.filename
        self._read(file.location, path)
        _check_hashes(path, file)
        return path if path.suffix == ".whl" else self._built(path, scratch)

    def _kept(self, file: RemoteFile) -> Path | None:
        """Return the wheel with this digest if it was downloaded before."""
        digests = [item.removeprefix("sha256:") for item in file.hashes if "sha256:" in item]
        if not digests or not file.filename.endswith(".whl"):
            return None
        path = self.home / object_names.wheel_object(digests[0], file.filename)
        return path if path.is_file() and _digest(path, "sha256") == digests[0] else None

    def _read(self, location: str, target: Path) -> None:
        if "://" in location and not location.startswith("file:"):
            self.fetcher.fetch(expanded(location, self.uv.environ), target)
            return
        try:
            shutil.copyfile(self._here(location), target)
        except OSError as error:
            raise LockError(
                f"{location} cannot be read: {error.strerror}",
                value=location,
                hint="check the path and its permissions",
            ) from error

    def _here(self, location: str) -> Path:
        if location.startswith("file:"):
            return Path(unquote(urlsplit(location).path))
        return self.uv.cwd / location

    def _built(self, source: Path, scratch: Path) -> Path:
        return build_wheel(self.uv, source, scratch, self._python())

    def _python(self) -> str:
        running = f"{sys.version_info.major}.{sys.version_info.minor}"
        return sys.executable if running == self.target.python else self.target.python

    def _checkout(self, vcs: VcsSource, scratch: Path) -> Path:
        if vcs.kind != "git":
            raise LockError(
                f"{without_credentials(vcs.url)} is a {vcs.kind} repository",
                value=vcs.kind,
                hint="only git is supported",
            )
        if not _COMMIT.fullmatch(vcs.commit):
            raise LockError(f"{vcs.commit!r} is not a commit", value=vcs.commit, hint="lock again")
        directory = scratch / "repository"
        url = expanded(vcs.url, self.uv.environ)
        self._git(scratch, "clone", "--quiet", "--no-checkout", "--", url, str(directory))
        self._git(directory, "checkout", "--quiet", "--detach", vcs.commit, "--")
        self._git(directory, "submodule", "--quiet", "update", "--init", "--recursive")
        inside = (directory / (vcs.subdirectory or ".")).resolve()
        if not inside.is_relative_to(directory.resolve()):
            raise LockError(
                f"{vcs.subdirectory!r} is not inside its repository",
                value=vcs.subdirectory,
                hint="name a directory of the repository itself",
            )
        return inside

    def _git(self, cwd: Path, *arguments: str) -> None:
        redactor = Redactor.of(self.uv.environ)
        environ = {**self.uv.environ, "GIT_TERMINAL_PROMPT": "0"}
        try:
            done = self.uv.run(
                ["git", *arguments],
                cwd=cwd,
                environ=environ,
                timeout_seconds=_GIT_TIMEOUT_SECONDS,
            )
        except (OSError, TimeoutError, subprocess.SubprocessError) as error:
            raise LockError(
                f"git did not finish: {redactor(str(error))}",
                hint="check that the repository can be reached with your own git",
            ) from None
        if done.exit_code != 0:
            raise LockError(
                f"git {arguments[0]} failed: {redactor(done.stderr).strip()}",
                hint="check that the repository can be reached with your own git",
            )

    def _keep(self, package: PylockPackage, wheel: Path) -> LockedPackage:
        digest = Sha256(_digest(wheel, "sha256"))
        name, version, _, _ = parse_wheel_filename(wheel.name)
        if canonicalize_name(name) != package.name:
            raise LockError(
                f"{package.name} was asked for, its source makes {name}",
                value=name,
                hint="name the package as it names itself",
            )
        kept = self.home / object_names.wheel_object(digest, wheel.name)
        if not kept.is_file():
            copy_atomically(wheel, kept)
        size_bytes = wheel.stat().st_size
        shipped = ShippedWheel(filename=wheel.name, sha256=digest, size_bytes=size_bytes)
        return LockedPackage(
            name=name, version=str(version), hashes=(f"sha256:{digest}",), wheel=shipped
        )


def build_wheel(uv: Uv, source: Path, scratch: Path, python: str) -> Path:
    """Build the wheel of a package, the same bytes each time.

    Args:
        uv: What builds it.
        source: The package's directory.
        scratch: An empty directory, where the wheel is left.
        python: The interpreter to build with, or its version.

    Raises:
        LockError: It cannot be built.
    """
    out = scratch / "built"
    environ = {
        "DIST_EXTRA_CONFIG": str(_setuptools_config(scratch)),
        **uv.environ,
        "SOURCE_DATE_EPOCH": SOURCE_DATE_EPOCH,
    }
    building = Uv(cwd=uv.cwd, environ=environ, run=uv.run)
    done = building("build", "--wheel", "--python", python, "--out-dir", out, "--", source)
    wheels = sorted(out.glob("*.whl"))
    if done.exit_code != 0 or not wheels:
        raise LockError(
            f"the package in {source} cannot be built:\n{_last_lines(done.stderr)}",
            value=str(source),
            hint=f"make `uv build --wheel {source}` work",
        )
    path = scratch / wheels[0].name
    path.write_bytes(normalized_wheel(wheels[0].read_bytes()))
    return path


def normalized_wheel(data: bytes) -> bytes:
    """Return a wheel with the same members whose bytes depend on nothing but them.

    Order, times, permissions and compression are fixed; members are stored uncompressed,
    because zlib's output differs between its builds. Executable members stay executable.
    """
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(out, "w") as target:
        for member in sorted(source.infolist(), key=lambda item: _member_order(item.filename)):
            if member.is_dir():
                continue
            info = zipfile.ZipInfo(member.filename, date_time=_FIRST_ZIP_MOMENT)
            is_executable = (member.external_attr >> 16) & 0o111
            info.external_attr = (0o100755 if is_executable else 0o100644) << 16
            info.create_system = 3
            target.writestr(info, source.read(member))
    return out.getvalue()


def _setuptools_config(scratch: Path) -> Path:
    """Write what keeps setuptools from building inside the project.

    There it would also ship what an earlier build left in `build`, modules that are long gone
    included (https://github.com/pypa/setuptools/issues/1871).
    """
    path = scratch / "setuptools.cfg"
    egg_base = scratch / "egg-info"
    egg_base.mkdir()
    path.write_text(
        f"[build]\nbuild_base = {scratch / 'build'}\n[egg_info]\negg_base = {egg_base}\n"
    )
    return path


def _last_lines(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines()[-_SHOWN_BUILD_LINES:])


def _member_order(name: str) -> tuple[bool, str]:
    """Sort metadata last, as the wheel format recommends."""
    return ".dist-info/" in name, name


def _check_hashes(path: Path, file: RemoteFile) -> None:
    for item in file.hashes:
        algorithm, _, expected = item.partition(":")
        if algorithm in hashlib.algorithms_guaranteed and _digest(path, algorithm) != expected:
            raise LockError(
                f"{file.filename} does not match its {algorithm} digest",
                value=file.filename,
                hint="it was changed on its way, or its index was",
            )


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
