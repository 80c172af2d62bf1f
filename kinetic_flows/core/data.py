"""`kinetic.Data`: something that a run reads, by where it comes from.

A value of this kind stands for a path: the function gets a `pathlib.Path` where its caller wrote
`kinetic.Data(...)`, at whatever depth of its arguments. What is at that path is fixed when the
run is planned, and is part of what `cache_for` compares.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Never, NoReturn, get_args

from kinetic_flows.core import option_values as check
from kinetic_flows.core.errors import UsageError
from kinetic_flows.core.lazy import LazyModule
from kinetic_flows.core.public_names import public

if TYPE_CHECKING:
    from kinetic_flows.core import keras_kinetic
else:
    keras_kinetic = LazyModule("kinetic_flows.core.keras_kinetic")

DataMode = Literal["copy", "mount"]
DataKind = Literal["local", "bucket", "hub", "web"]
HubType = Literal["dataset", "model"]

_SHA256 = re.compile(r"[0-9a-f]{64}")
_REVISION = r"refs/(?:pr|convert)/[\w.-]+|[\w.-]+"
_HUB = re.compile(rf"hf://(datasets|models)/([\w.-]+(?:/[\w.-]+)?)(?:@({_REVISION}))?(?:/(.*))?")
_BUCKET = re.compile(r"gs://([a-z0-9][a-z0-9._-]{1,220}[a-z0-9])(?:/(.*))?")


@public
@dataclass(frozen=True, init=False)
class Data:
    """Files that a run reads, and gets as a path.

    A file or directory of this machine is used where it is by runs on this machine; for others it
    is brought to the store once, whoever asks for it. What is elsewhere, the run fetches.

    Example:
        ```python
        @kinetic.run(accelerator="l4")
        def train(images: Path, labels: Path) -> float: ...

        train(kinetic.Data("~/cats"), kinetic.Data("gs://bucket/labels.csv"))
        ```

    Args:
        source: A file or directory of this machine, `gs://bucket/path`,
            `hf://datasets/owner/name[@revision][/path]`, `hf://models/owner/name[@revision][/path]`,
            or `https://...`.
        mode: `copy` (default) has the run make a copy of its own before the function is called;
            `mount` has Cloud Storage mounted, for `gs://` alone, and reads what is read.
        sha256: The digest, in hexadecimal, that the file must have; needed for `https://`.
        revision: Branch, tag or commit of an `hf://` source; None (default) for what the source
            names, else for `main`. It is pinned to its commit when the run is planned.
        include: Patterns, as `fnmatch` has them, of which one must match a file's path below the
            source, or a directory that it is in; None (default) for all files.
        exclude: Patterns of which none may.
        in_memory: Whether a copy is kept in memory (`/dev/shm`) rather than on a disk.
        read_only: Whether what is mounted cannot be written to; True by default.

    Raises:
        UsageError: The source is none of these, or an option does not go with it.
    """

    source: str
    mode: DataMode
    sha256: str | None
    revision: str | None
    include: tuple[str, ...] | None
    exclude: tuple[str, ...]
    in_memory: bool
    read_only: bool

    def __init__(
        self,
        source: str | os.PathLike[str],
        *,
        mode: DataMode = "copy",
        sha256: str | None = None,
        revision: str | None = None,
        include: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
        in_memory: bool = False,
        read_only: bool = True,
        **others: Never,
    ) -> None:
        if others:
            raise keras_kinetic.refused_options(
                "kinetic.Data()",
                others,
                [each.name for each in fields(self)][1:],
                words=keras_kinetic.DATA,
            )
        given = {
            "source": _source(source),
            "mode": check.choice("mode", mode, get_args(DataMode)),
            "sha256": sha256 if sha256 is None else _digest(sha256),
            "revision": revision if revision is None else check.text("revision", revision),
            "include": None if include is None else check.texts("include", include),
            "exclude": check.texts("exclude", exclude),
            "in_memory": check.flag("in_memory", in_memory),
            "read_only": check.flag("read_only", read_only),
        }
        for name, value in given.items():
            object.__setattr__(self, name, value)
        self._check()

    @property
    def kind(self) -> DataKind:
        """Where it comes from: `local`, `bucket` (`gs://`), `hub` (`hf://`) or `web` (`https://`)."""
        scheme = self.source.partition("://")[0] if "://" in self.source else ""
        kinds: dict[str, DataKind] = {"gs": "bucket", "hf": "hub", "https": "web", "http": "web"}
        return kinds.get(scheme, "local")

    @property
    def name(self) -> str:
        """The last part of its source: what its file or directory is called."""
        name = self.shown_source.rstrip("/").rpartition("/")[2]
        if self.kind == "hub":
            _, repository, _, path = self.hub()
            name = (path or repository).rpartition("/")[2]
        if self.kind == "web":
            from urllib.parse import unquote

            name = unquote(name).rpartition("/")[2]
        return "data" if name in ("", ".", "..") or "\0" in name else name

    @property
    def shown_source(self) -> str:
        """Its source, of a web address without what may be a signature."""
        if self.kind != "web":
            return self.source
        return self.source.partition("#")[0].partition("?")[0]

    def bucket(self) -> tuple[str, str]:
        """Return bucket and path of a `gs://` source, the path without a slash at its end."""
        found = _BUCKET.fullmatch(self.source)
        if found is None:
            raise ValueError(self.source)
        return found[1], (found[2] or "").strip("/")

    def hub(self) -> tuple[HubType, str, str, str]:
        """Return type, repository, revision and path of an `hf://` source."""
        found = _HUB.fullmatch(self.source)
        if found is None:
            raise ValueError(self.source)
        kind: HubType = "dataset" if found[1] == "datasets" else "model"
        return kind, found[2], self.revision or found[3] or "main", (found[4] or "").strip("/")

    def __fspath__(self) -> NoReturn:
        raise UsageError(
            f"{self!r} is no path here: it becomes one as an argument of a function that runs",
            value=self.source,
            hint="pass it to the function; where it is made, use the source itself",
        )

    def __repr__(self) -> str:
        defaults = {"mode": "copy", "exclude": (), "in_memory": False, "read_only": True}
        signed = "?..." if self.kind == "web" and "?" in self.source else ""
        said = [repr(f"{self.shown_source}{signed}")]
        for name, value in vars(self).items():
            if name != "source" and value is not None and value != defaults.get(name):
                said.append(f"{name}={value!r}")
        return f"kinetic.Data({', '.join(said)})"

    def __reduce__(self) -> tuple[Any, ...]:
        options = {name: value for name, value in vars(self).items() if name != "source"}
        return _restored, (self.source, options)

    def _check(self) -> None:
        """Refuse what does not go together."""
        kind = self.kind
        if kind == "web":
            self._check_web()
        elif self.sha256 is not None:
            self._refuse(f"sha256 is for https://, not for {kind} sources", "leave it out")
        if kind != "hub" and self.revision is not None:
            self._refuse("revision is for hf:// sources", "leave it out")
        if kind == "bucket" and not _BUCKET.fullmatch(self.source):
            self._refuse("no place in Cloud Storage", "give gs://bucket/path")
        if kind == "hub":
            self._check_hub()
        self._check_mode()

    def _check_mode(self) -> None:
        if self.mode == "mount" and self.kind != "bucket":
            self._refuse("only Cloud Storage can be mounted", "leave mode out, or give gs://...")
        if self.mode == "mount" and self.in_memory:
            self._refuse("what is mounted is no copy", "leave in_memory out")
        if self.mode == "mount" and (self.include is not None or self.exclude):
            hint = "mount a directory, and pass over the rest in the function"
            self._refuse("include and exclude are for copies", hint)
        if self.mode == "mount" and re.search("[,:]", self.bucket()[1]):
            # GKE's driver splits options at commas, and takes what has a colon for another one.
            hint = "leave mode out, or mount the directory above"
            self._refuse("what is mounted can have no comma or colon in its path", hint)
        if not self.read_only and self.mode != "mount":
            self._refuse("only what is mounted can be written to", "say mode='mount' as well")

    def _check_web(self) -> None:
        if "@" in self.source.partition("://")[2].partition("/")[0]:
            hint = "leave user and password out: an address is shown, and kept with the run"
            raise UsageError("a web address has a password in it", value="(not shown)", hint=hint)
        if self.sha256 is None:
            self._refuse("a web address without a digest", "give sha256=: what it says may change")
        if self.source.startswith("http:") and not _is_loopback(self.source):
            self._refuse("not encrypted", "give an https:// address")

    def _check_hub(self) -> None:
        found = _HUB.fullmatch(self.source)
        if found is None:
            hint = keras_kinetic.hub_hint(self.source) or (
                "give hf://datasets/owner/name or hf://models/owner/name, with @revision or not"
            )
            self._refuse("no repository of the hub", hint)
        if found[3] and self.revision and found[3] != self.revision:
            self._refuse(f"revision={self.revision!r} besides", "name one revision")

    def _refuse(self, what: str, hint: str) -> NoReturn:
        shown = self.shown_source
        raise UsageError(f"kinetic.Data({shown!r}): {what}", value=shown, hint=hint)


def _restored(source: str, options: dict[str, Any]) -> Data:
    return Data(source, **options)


def _source(source: object) -> str:
    if isinstance(source, str) and "://" in source:
        scheme = source.partition("://")[0]
        if scheme not in ("gs", "hf", "https", "http"):
            check.refuse("source", source, "give a path, or gs://, hf:// or https://")
        return source
    if isinstance(source, str) and re.match(r"(gs|hf|https?):", source):
        check.refuse("source", source, "a scheme is followed by two slashes")
    if not isinstance(source, str | os.PathLike) or not isinstance(os.fspath(source) or 0, str):
        check.refuse("source", source, "give a path, or gs://, hf:// or https://")
    path = Path(source).expanduser()
    # Later the working directory may be another one.
    return str(path.resolve() if ".." in path.parts else path.absolute())


def _digest(value: object) -> str:
    text = check.text("sha256", value).lower().removeprefix("sha256:")
    if not _SHA256.fullmatch(text):
        check.refuse("sha256", value, "give 64 hexadecimal digits: what sha256sum prints")
    return text


def _is_loopback(url: str) -> bool:
    host = re.match(r"http://(\[[^]]*\]|[^/:]*)", url)
    return host is not None and host[1] in ("127.0.0.1", "localhost", "[::1]")
