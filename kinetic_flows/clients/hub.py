"""The hub of models and datasets: what a revision is, and which files it has.

https://huggingface.co/docs/hub/api describes the API; trees come in pages (`Link`, RFC 8288), and
what is refused has `X-Error-Code`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, urlsplit

from kinetic_flows.clients.retry import Transient, insist
from kinetic_flows.core.errors import UsageError
from kinetic_flows.core.lazy import LazyModule
from kinetic_flows.core.waits import waiting_for

if TYPE_CHECKING:
    import httpx
else:
    httpx = LazyModule("httpx")

PUBLIC = "https://huggingface.co"
TIMEOUT_SECONDS = 30.0
RETRY_PAUSES_SECONDS = (0.5, 2.0, 5.0)
MOST_WAIT_SECONDS = 60.0
"""Longer than this nobody waits because the hub has had too many requests."""

_TOO_MANY = 429
_SERVER_ERRORS = 500


class HubFile(NamedTuple):
    """A file of a repository.

    Attributes:
        path: Its path there.
        size_bytes: Its size.
        digest: SHA-256 of an LFS object, else `git:` and the SHA-1 of its blob.
    """

    path: str
    size_bytes: int
    digest: str


class Revision(NamedTuple):
    """A revision of a repository.

    Attributes:
        commit: Its commit.
        is_open: Whether everybody may read it, without a token.
        repository: Owner and name of its repository, which may have had another name once.
    """

    commit: str
    is_open: bool
    repository: str


class HubClient:
    """Asks a hub.

    Args:
        endpoint: Its address.
        token: With which it is asked; None for what everybody may read.
    """

    def __init__(self, endpoint: str, token: str | None) -> None:
        self.endpoint = endpoint.rstrip("/")
        self.has_token = token is not None
        self._headers = {"User-Agent": "kinetic-flows"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> HubClient:
        """Return a client of the hub that the variables name, with the token that they have.

        Args:
            environ: `HF_ENDPOINT`, and `HF_TOKEN` or where a login keeps it.
        """
        return cls(environ.get("HF_ENDPOINT") or PUBLIC, token_of(environ))

    def revision(self, kind: str, repository: str, revision: str) -> Revision:
        """Return what a branch, tag or commit is.

        Args:
            kind: `dataset` or `model`.
            repository: Owner and name.
            revision: The branch, tag or commit.

        Raises:
            UsageError: There is no such thing, or the token may not read it.
        """
        what = f"{kind} {repository}"
        path = f"{_api(kind, repository)}/revision/{quote(revision, safe='')}"
        answer = self._ask("GET", path, f"{what} at {revision}")
        with self._as_hub(what):
            said = answer.json()
            is_open = not said.get("private") and not said.get("gated")
            return Revision(str(said["sha"]), is_open, str(said.get("id") or repository))

    def files(self, kind: str, repository: str, commit: str, path: str) -> Iterator[HubFile]:
        """Yield the files in a directory of a repository, those in directories of it, too.

        Args:
            kind: `dataset` or `model`.
            repository: Owner and name.
            commit: The commit.
            path: The directory; empty for all of it.

        Raises:
            UsageError: There is no such directory, or the token may not read it.
        """
        what = f"{path or 'the files'} of {kind} {repository}"
        below = f"/{quote(path)}" if path else ""
        url: str | None = f"{_api(kind, repository)}/tree/{commit}{below}?recursive=true"
        while url:
            answer = self._ask("GET", url, what)
            with self._as_hub(what):
                files = [_file(entry) for entry in answer.json() if entry["type"] == "file"]
            yield from files
            further = urlsplit(answer.links.get("next", {}).get("url", ""))
            # A mirror may name the hub that it mirrors, which is to get no token of the mirror's.
            at = further.path.removeprefix(urlsplit(self.endpoint).path)
            url = f"{at}?{further.query}" if further.query else None

    def file(self, kind: str, repository: str, commit: str, path: str) -> HubFile | None:
        """Return a file; None where there is a directory of that name.

        Args:
            kind: `dataset` or `model`.
            repository: Owner and name.
            commit: The commit.
            path: The file's path.

        Raises:
            UsageError: There is neither, or the token may not read it.
        """
        what = f"{path} of {kind} {repository}"
        url = f"{_api(kind, repository)}/paths-info/{commit}"
        answer = self._ask("POST", url, what, {"paths": [path], "expand": False})
        with self._as_hub(what):
            entries = [(entry["type"], entry) for entry in answer.json()]
            found = [_file(entry) if kind == "file" else None for kind, entry in entries]
        if not found:
            raise UsageError(f"the hub has no {what}", value=path, hint="look at its files there")
        return found[0]

    def require_access(self, kind: str, repository: str, commit: str, path: str) -> None:
        """Go on where a file may be read: of some repositories everybody may list the files.

        Raises:
            UsageError: The token may not.
        """
        prefix = "datasets/" if kind == "dataset" else ""
        url = f"/{prefix}{repository}/resolve/{commit}/{quote(path)}"
        self._ask("HEAD", url, f"{kind} {repository}")

    def _ask(self, method: str, url: str, what: str, sent: Any = None) -> httpx.Response:
        attempt = partial(self._attempt, method, url, what, sent)
        with waiting_for(self.endpoint):
            return insist(attempt, RETRY_PAUSES_SECONDS)

    def _attempt(self, method: str, url: str, what: str, sent: Any) -> httpx.Response:
        try:
            answer = httpx.request(
                method,
                f"{self.endpoint}{url}",
                json=sent,
                headers=self._headers,
                timeout=TIMEOUT_SECONDS,
                # From a repository's earlier name; where its files are needs no asking.
                follow_redirects=method == "GET",
            )
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise Transient(self._unreachable(what, str(error) or repr(error))) from error
        if answer.status_code == _TOO_MANY or answer.status_code >= _SERVER_ERRORS:
            told = self._unreachable(what, f"HTTP {answer.status_code}")
            raise Transient(told, _wait_seconds(answer.headers))
        if answer.status_code >= 400:
            raise self._refused(what, answer)
        return answer

    def _unreachable(self, what: str, why: str) -> UsageError:
        return UsageError(
            f"the hub at {self.endpoint} cannot be asked for {what}: {why}",
            value=self.endpoint,
            hint="check the network, and HF_ENDPOINT; try again",
        )

    @contextmanager
    def _as_hub(self, what: str) -> Iterator[None]:
        """Refuse what no hub answers, which the block reads."""
        try:
            yield
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._odd(what, repr(error)) from error

    def _odd(self, what: str, why: str) -> UsageError:
        return UsageError(
            f"{self.endpoint} does not answer as a hub, asked for {what}: {why}",
            value=self.endpoint,
            hint="check HF_ENDPOINT",
        )

    def _refused(self, what: str, answer: httpx.Response) -> UsageError:
        code = answer.headers.get("X-Error-Code", "")
        said = answer.headers.get("X-Error-Message", "") or f"HTTP {answer.status_code}"
        if code == "GatedRepo":
            hint = "ask for access on its page" if self.has_token else _LOGIN_HINT
            why = "access to it has to be granted"
        elif code == "RevisionNotFound":
            why, hint = "there is no such revision", "look at its branches, tags and commits there"
        elif code == "EntryNotFound":
            why, hint = "there is no such file or directory", "look at its files there"
        elif code == "RepoNotFound" or answer.status_code in (401, 403):
            why, hint = "it does not exist, or is private", _LOGIN_HINT
            if self.has_token:
                hint = "check its name, and whether the owner of HF_TOKEN may read it"
        else:
            why, hint = "the hub refuses", "check the address, and HF_ENDPOINT"
        return UsageError(f"{what} cannot be had: {why} ({said})", value=what, hint=hint)


_LOGIN_HINT = (
    "check its name; if it is private or gated, set HF_TOKEN here, and give the run "
    "secrets={'HF_TOKEN': 'env:HF_TOKEN'}"
)


def token_of(environ: Mapping[str, str]) -> str | None:
    """Return the token to ask the hub with: the variable, or that of a login.

    https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables

    Args:
        environ: Variables.
    """
    told = environ.get("HF_TOKEN", "").strip()
    if told:
        return told
    cache = Path(environ.get("XDG_CACHE_HOME") or Path(environ.get("HOME", "/")) / ".cache")
    home = Path(environ.get("HF_HOME") or cache / "huggingface")
    try:
        return Path(environ.get("HF_TOKEN_PATH") or home / "token").read_text().strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def _api(kind: str, repository: str) -> str:
    return f"/api/{kind}s/{quote(repository)}"


def _file(entry: Mapping[str, Any]) -> HubFile:
    large = entry.get("lfs")
    if large:
        return HubFile(entry["path"], int(large["size"]), str(large["oid"]))
    return HubFile(entry["path"], int(entry["size"]), f"git:{entry['oid']}")


def _wait_seconds(headers: Mapping[str, str]) -> float | None:
    """Return when the hub wants to be asked again; None where it does not say.

    https://huggingface.co/docs/hub/rate-limits
    """
    for part in headers.get("RateLimit", "").split(";"):
        name, _, value = part.strip().partition("=")
        if name == "t" and value.isdigit():
            return min(float(value), MOST_WAIT_SECONDS)
    return None
