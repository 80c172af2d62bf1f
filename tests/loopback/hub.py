"""The hub of models and datasets, as far as reading goes, with its network for large files.

Its API as `huggingface_hub` speaks it: revisions, trees in pages (`Link`, RFC 8288), `paths-info`,
and `resolve`, which redirects: small files to a path of the same host, which wants the token again,
large ones (LFS) to another host with a signed address, which takes no token. What it refuses has
`X-Error-Code` and `X-Error-Message` (https://huggingface.co/docs/hub/api), and too many requests
get 429 with `RateLimit` (https://huggingface.co/docs/hub/rate-limits).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import parse_qs, quote, urlencode

from loopback.wire import Fault, Request, Response, WireServer

HubType = Literal["dataset", "model"]

TYPES: Mapping[str, HubType] = {"datasets": "dataset", "models": "model"}

NO_TOKEN = "Invalid username or password."
WRONG_TOKEN = "Invalid credentials in Authorization header"


@dataclass(kw_only=True)
class Repository:
    """A repository of the hub.

    Attributes:
        kind: Whether it is a dataset or a model.
        name: Owner and name.
        commits: Files by path, by commit.
        branches: Commits by the names of branches and tags.
        large: Paths of files that are kept in LFS.
        readers: Tokens of those who may read it; None where everybody may.
        gated: Whether those who have no access may list its files all the same.
    """

    kind: HubType
    name: str
    commits: dict[str, Mapping[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    large: frozenset[str] = frozenset()
    readers: frozenset[str] | None = None
    gated: bool = False

    def may_read(self, token: str | None) -> bool:
        return self.readers is None or token in self.readers

    def commit(self, revision: str) -> str | None:
        """Return the commit of a branch, a tag or a commit; None when there is none."""
        return revision if revision in self.commits else self.branches.get(revision)


class HubServer:
    """A hub on a free port, and on another one (and under another name) its large files.

    Args:
        page_size: How many entries of a tree are in one page at most.
    """

    def __init__(self, *, page_size: int = 1000) -> None:
        self.page_size = page_size
        self.tokens = {"hf_reader", "hf_other"}
        self._repositories: dict[tuple[HubType, str], Repository] = {}
        self._renamed: dict[tuple[HubType, str], str] = {}
        self._objects: dict[str, bytes] = {}
        self.wire = WireServer(self._answer)
        self.network = WireServer(self._answer_network)
        self.url = self.wire.url
        self.network_url = f"http://localhost:{self.network.port}"

    def start(self) -> HubServer:
        self.wire.start()
        self.network.start()
        return self

    def stop(self) -> None:
        self.wire.stop()
        self.network.stop()

    def commit(
        self,
        kind: HubType,
        name: str,
        files: Mapping[str, bytes],
        *,
        large: frozenset[str] = frozenset(),
        branch: str = "main",
        readers: frozenset[str] | None = None,
        gated: bool = False,
    ) -> str:
        """Make a repository, or a further commit of one; return the commit.

        Args:
            kind: Whether it is a dataset or a model.
            name: Owner and name.
            files: All its files, by path.
            large: Which of them are kept in LFS.
            branch: The branch that has the commit.
            readers: Tokens of those who may read it; None where everybody may.
            gated: Whether the others may list its files all the same.
        """
        repository = self._repositories.setdefault(
            (kind, name), Repository(kind=kind, name=name, readers=readers, gated=gated)
        )
        number = len(repository.commits)
        sha = hashlib.sha1(f"{kind} {name} {number} {sorted(files.items())}".encode()).hexdigest()
        repository.commits[sha] = dict(files)
        repository.branches[branch] = sha
        repository.large |= large
        for path in large:
            self._objects[hashlib.sha256(files[path]).hexdigest()] = files[path]
        return sha

    def rename(self, kind: HubType, name: str, new: str) -> None:
        """Give a repository another name: its API redirects from the earlier one."""
        repository = self._repositories.pop((kind, name))
        repository.name = new
        self._repositories[kind, new] = repository
        self._renamed[kind, name] = new

    @contextmanager
    def too_many(self, times: int, seconds: int, path: str = "") -> Iterator[Fault]:
        """Answer the next requests with 429, and say when to come again.

        Args:
            times: How many.
            seconds: After how long they may come again.
            path: Only those whose path holds this text; empty for any.
        """
        headers = {
            "RateLimit": f'"api";r=0;t={seconds}',
            "RateLimit-Policy": '"fixed window";"api";q=1000;w=300',
        }
        fault = Fault(kind="status", times=times, status=429, path=path, headers=headers)
        with self.wire.fault(fault):
            yield fault

    # The hub itself

    def _answer(self, request: Request) -> Response:
        token = _token(request)
        if token is not None and token not in self.tokens:
            return _refused(401, "", WRONG_TOKEN)
        segments = request.segments
        if segments[:2] == ["api", "resolve-cache"]:
            return self._small_file(request, segments[2:], token)
        if segments[0] == "api":
            return self._api(request, segments[1:], token)
        kind: HubType = "model"
        if segments[0] == "datasets":
            kind, segments = "dataset", segments[1:]
        return self._resolve(request, kind, segments, token)

    def _api(self, request: Request, segments: list[str], token: str | None) -> Response:
        kind = TYPES.get(segments[0])
        if kind is None:
            return _refused(404, "", "Sorry, we can't find the page you are looking for.")
        for count in (2, 1):
            if new := self._renamed.get((kind, "/".join(segments[1 : 1 + count]))):
                path = "/".join(["/api", segments[0], new, *segments[1 + count :]])
                query = f"?{urlencode(request.query)}" if request.query else ""
                location = {"Location": f"{path}{query}"}
                return Response(status=307, headers=location, body=b"Temporary Redirect")
        repository, rest = self._split(kind, segments[1:])
        if repository is None or (not repository.gated and not repository.may_read(token)):
            return _no_repository(token)
        name = rest[0] if rest else ""
        revision = rest[1] if len(rest) > 1 else "main"
        path = "/".join(rest[2:])
        commit = repository.commit(revision)
        if commit is None:
            return _refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        if name == "tree" and request.method == "GET":
            return self._tree(request, repository, commit, path)
        if name == "paths-info" and request.method == "POST":
            return _json(_paths_info(repository, commit, _paths_of(request)), commit)
        if name in ("", "revision") and request.method == "GET":
            return _json(_about(repository, commit), commit)
        return _refused(404, "", "Sorry, we can't find the page you are looking for.")

    def _tree(self, request: Request, repository: Repository, commit: str, path: str) -> Response:
        is_deep = request.query.get("recursive", "").lower() in ("1", "true")
        entries = _tree(repository, commit, path, is_deep=is_deep)
        if not entries:
            return _refused(404, "EntryNotFound", f"{path} does not exist on {commit!r}")
        size = min(int(request.query.get("limit") or self.page_size), self.page_size)
        begin = int(request.query.get("cursor") or 0)
        headers = {}
        if begin + size < len(entries):
            query = urlencode({**request.query, "limit": size, "cursor": begin + size})
            headers["Link"] = f'<{self.url}{request.path}?{query}>; rel="next"'
        return _json(entries[begin : begin + size], commit, headers)

    def _resolve(
        self, request: Request, kind: HubType, segments: list[str], token: str | None
    ) -> Response:
        repository, rest = self._split(kind, segments)
        if repository is None or rest[:1] != ["resolve"] or len(rest) < 3:
            return _no_repository(token)
        if not repository.may_read(token):
            return _gate(repository, token) if repository.gated else _no_repository(token)
        commit, path = repository.commit(rest[1]), "/".join(rest[2:])
        if commit is None:
            return _refused(404, "RevisionNotFound", f"Invalid rev id: {rest[1]}")
        content = repository.commits[commit].get(path)
        if content is None:
            return _refused(404, "EntryNotFound", "Entry not found")
        headers = {"X-Repo-Commit": commit, "X-Linked-Size": str(len(content))}
        if path in repository.large:
            digest = hashlib.sha256(content).hexdigest()
            location = f"{self.network_url}/objects/{digest}?X-Signature={_signature(digest)}"
            headers |= {"X-Linked-Etag": f'"{digest}"', "Location": location}
            return Response(status=302, headers=headers)
        quoted = quote(f"{kind}s/{repository.name}/{commit}/{path}")
        headers |= {"ETag": f'"{git_blob(content)}"', "Location": f"/api/resolve-cache/{quoted}"}
        return Response(status=307, headers=headers)

    def _small_file(self, request: Request, segments: list[str], token: str | None) -> Response:
        repository, rest = self._split(TYPES[segments[0]], segments[1:])
        if repository is None or not repository.may_read(token):
            return _no_repository(token)
        content = repository.commits[rest[0]]["/".join(rest[1:])]
        headers = {"ETag": f'"{git_blob(content)}"', "X-Repo-Commit": rest[0]}
        return ranged(request, content, headers)

    def _split(self, kind: HubType, segments: list[str]) -> tuple[Repository | None, list[str]]:
        """Return the repository that a path begins with, and the rest of it."""
        for count in (2, 1):
            found = self._repositories.get((kind, "/".join(segments[:count])))
            if found:
                return found, segments[count:]
        return None, []

    # Its network for large files

    def _answer_network(self, request: Request) -> Response:
        if request.headers.get("Authorization"):
            return Response(status=400, body=b"Only one auth mechanism allowed")
        digest = request.segments[-1]
        content = self._objects.get(digest)
        if content is None or request.query.get("X-Signature") != _signature(digest):
            return Response(status=403, body=b"AccessDenied")
        return ranged(request, content, {"ETag": f'"{digest}"'})


def git_blob(content: bytes) -> str:
    """Return what git calls a file of this content: what `git hash-object` prints."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def ranged(request: Request, content: bytes, headers: Mapping[str, str]) -> Response:
    """Return a file, or the range of it that is asked for (RFC 9110, section 14)."""
    headers = {"Accept-Ranges": "bytes", **headers}
    unit, _, span = request.headers.get("Range", "").partition("=")
    if unit != "bytes" or "," in span:
        return Response(headers=headers, body=content)
    first, _, last = span.partition("-")
    begin = int(first)
    end = min(int(last) + 1 if last else len(content), len(content))
    if begin >= len(content):
        return Response(status=416, headers={"Content-Range": f"bytes */{len(content)}"})
    said = {"Content-Range": f"bytes {begin}-{end - 1}/{len(content)}"}
    return Response(status=206, headers={**headers, **said}, body=content[begin:end])


def _token(request: Request) -> str | None:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token if scheme == "Bearer" else None


def _signature(digest: str) -> str:
    return hashlib.sha256(f"signed {digest}".encode()).hexdigest()[:16]


def _tree(repository: Repository, commit: str, path: str, *, is_deep: bool) -> list[dict[str, Any]]:
    """Return what is in a directory: directories too, as the hub has it."""
    prefix = f"{path}/" if path else ""
    found: dict[str, dict[str, Any]] = {}
    for name in sorted(repository.commits[commit]):
        if not name.startswith(prefix):
            continue
        parts = name[len(prefix) :].split("/")
        for depth in range(1, len(parts)):
            folder = prefix + "/".join(parts[:depth])
            if depth == 1 or is_deep:
                found.setdefault(folder, _folder(folder))
        if len(parts) == 1 or is_deep:
            found[name] = _file(repository, commit, name)
    return list(found.values())


def _file(repository: Repository, commit: str, path: str) -> dict[str, Any]:
    content = repository.commits[commit][path]
    entry = {"type": "file", "oid": git_blob(content), "size": len(content), "path": path}
    if path not in repository.large:
        return entry
    digest = hashlib.sha256(content).hexdigest()
    pointer = (
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {len(content)}\n"
    ).encode()
    lfs = {"oid": digest, "size": len(content), "pointerSize": len(pointer)}
    return {**entry, "oid": git_blob(pointer), "lfs": lfs}


def _folder(path: str) -> dict[str, Any]:
    oid = hashlib.sha1(path.encode()).hexdigest()
    return {"type": "directory", "oid": oid, "size": 0, "path": path}


def _paths_info(repository: Repository, commit: str, paths: list[str]) -> list[dict[str, Any]]:
    entries = []
    for path in paths:
        if path in repository.commits[commit]:
            entries.append(_file(repository, commit, path))
        elif _tree(repository, commit, path, is_deep=False):
            entries.append(_folder(path))
    return entries


def _paths_of(request: Request) -> list[str]:
    if request.headers.get_content_type() == "application/json":
        return [str(path) for path in json.loads(request.body)["paths"]]
    return parse_qs(request.body.decode()).get("paths", [])


def _about(repository: Repository, commit: str) -> dict[str, Any]:
    return {
        "id": repository.name,
        "sha": commit,
        "private": repository.readers is not None and not repository.gated,
        "gated": "manual" if repository.gated else False,
        "disabled": False,
        "siblings": [{"rfilename": path} for path in sorted(repository.commits[commit])],
    }


def _json(value: Any, commit: str, headers: Mapping[str, str] | None = None) -> Response:
    said = {"Content-Type": "application/json; charset=utf-8", "X-Repo-Commit": commit}
    return Response(headers={**said, **(headers or {})}, body=json.dumps(value).encode())


def _no_repository(token: str | None) -> Response:
    """Answer as to a repository that is not there, or that one does not get to know of."""
    if token is None:
        return _refused(401, "RepoNotFound", NO_TOKEN)
    return _refused(404, "RepoNotFound", "Repository not found")


def _gate(repository: Repository, token: str | None) -> Response:
    what = f"Access to {repository.kind} {repository.name} is restricted"
    if token is None:
        message = f"{what}. You must have access to it and be authenticated to access it."
        return _refused(401, "GatedRepo", f"{message} Please log in.")
    return _refused(403, "GatedRepo", f"{what} and you are not in the authorized list.")


def _refused(status: int, code: str, message: str) -> Response:
    headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}
    body = json.dumps({"error": message}).encode()
    return Response(
        status=status, headers={**headers, "Content-Type": "application/json"}, body=body
    )
