"""Data of the hub of models and datasets, by its API, with the standard library.

What the API answers is described in https://huggingface.co/docs/hub/api; trees come in pages
(`Link`, RFC 8288), and `resolve` redirects, for large files to another server.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from .contract import EXIT_DATA_UNAVAILABLE, EXIT_OBJECT_REFUSED, Fault
from .data_http import Http, HttpRefusal, Unreachable, unavailable
from .data_listing import Listed, Listing, is_wanted, joined, sort_key, written
from .data_work import Work

TOKEN = "HF_TOKEN"  # noqa: S105 - the name of a variable
ENDPOINT = "HF_ENDPOINT"

_NEXT = re.compile(r'<([^>]*)>\s*;\s*rel="?next"?')


class HubFiles:
    """The files of one source in the hub.

    Args:
        spec: The job's `DataSpec`.
        environ: The run's variables: the token, and a mirror of the hub.
        work: What they are fetched for.
    """

    newest = ""
    """What was changed last: a commit never changes."""

    def __init__(self, spec: Mapping[str, Any], environ: Mapping[str, str], work: Work) -> None:
        place = spec["place"]
        self._spec = spec
        self.is_file = bool(spec["is_file"])
        self._repository: str = place["repository"]
        self._commit: str = place["commit"]
        self._path: str = place["path"]
        self._endpoint = (environ.get(ENDPOINT) or place["endpoint"]).rstrip("/")
        self._kind = f"{place['type']}s"
        self._token = token_of(environ)
        self._work = work
        self._http = Http(work, environ, self._token, self._endpoint)

    def listing(self, place: str) -> Listing:
        """Ask for the files, and return them, written to a file.

        Raises:
            Fault: The hub does not say.
        """
        try:
            # The hub sorts them in its own way.
            files = sorted(self._files(), key=sort_key)
        except (HttpRefusal, Unreachable) as error:
            raise self._fault(error) from error
        except (ValueError, KeyError, TypeError) as error:
            message = (
                f"{self._spec['source']}: {self._endpoint} answers what no hub does: {error!r}"
            )
            raise Fault(EXIT_DATA_UNAVAILABLE, message) from error
        return written("hub", files, place)

    def fetch(self, file: Listed, begin: int, end: int) -> Iterator[bytes]:
        """Yield bytes of a file."""
        path = self._path if self.is_file else joined(self._path, file.path)
        name = self._repository if self._kind == "models" else f"datasets/{self._repository}"
        url = f"{self._endpoint}/{name}/resolve/{self._commit}/{quote(path)}"
        try:
            yield from self._http.stream(url, begin, end)
        except (HttpRefusal, Unreachable) as error:
            raise self._fault(error) from error

    def _files(self) -> Iterator[Listed]:
        if self.is_file:
            yield from map(self._listed, self._about_path())
            return
        url = f"{self._api}/tree/{self._commit}"
        url = f"{url}/{quote(self._path)}" if self._path else url
        query = "recursive=true&expand=false"
        while query:
            body, headers = self._http.read(f"{url}?{query}")
            entries = json.loads(body)
            self._work.find(len(entries))
            for entry in entries:
                if entry["type"] == "file" and is_wanted(self._relative(entry), self._spec):
                    yield self._listed(entry)
            found = _NEXT.search(headers.get("Link") or "")
            # A mirror may name the hub that it mirrors, which a run need not reach.
            query = urlsplit(found[1]).query if found else ""

    def _about_path(self) -> list[Mapping[str, Any]]:
        """Ask for a single file."""
        sent = json.dumps({"paths": [self._path], "expand": False}).encode()
        url = f"{self._api}/paths-info/{self._commit}"
        body, _ = self._http.read(url, sent, "application/json")
        entries = [entry for entry in json.loads(body) if entry["type"] == "file"]
        if not entries:
            message = f"{self._repository} has no file {self._path} at {self._commit}"
            raise Fault(EXIT_DATA_UNAVAILABLE, message)
        return entries

    @property
    def _api(self) -> str:
        return f"{self._endpoint}/api/{self._kind}/{self._repository}"

    def _relative(self, entry: Mapping[str, Any]) -> str:
        path: str = entry["path"]
        if self.is_file:
            return path.rpartition("/")[2]
        return path[len(self._path) + 1 :] if self._path else path

    def _listed(self, entry: Mapping[str, Any]) -> Listed:
        large = entry.get("lfs")
        size = int(large["size"] if large else entry["size"])
        digest = large["oid"] if large else f"git:{entry['oid']}"
        check = f"sha256:{digest}" if large else digest
        return Listed(self._relative(entry), (str(size), digest), size, check)

    def _fault(self, error: HttpRefusal | Unreachable) -> Fault:
        source = self._spec["source"]
        if isinstance(error, Unreachable):
            return unavailable(source, error)
        said = error.headers.get("X-Error-Message") or f"HTTP {error.code}"
        message = f"{source} cannot be fetched: {self._endpoint} says: {said}"
        if error.code in (401, 403, 404):
            message = f"{message} {self._rights(error)}"
        refused = error.code in (401, 403)
        return Fault(EXIT_OBJECT_REFUSED if refused else EXIT_DATA_UNAVAILABLE, message)

    def _rights(self, error: HttpRefusal) -> str:
        if error.headers.get("X-Error-Code") == "GatedRepo" and self._token:
            return f"(ask for access on its page; {TOKEN} is set, and its owner has none)"
        if self._token:
            return f"({TOKEN} is set: may its owner read {self._repository}?)"
        return f"(is it private, gated, or not there? give secrets={{'{TOKEN}': ...}})"


def token_of(environ: Mapping[str, str]) -> str | None:
    """Return the token that the hub's own client would send; None for none.

    https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables
    """
    token = environ.get(TOKEN) or environ.get("HUGGING_FACE_HUB_TOKEN")
    if token:
        return token.strip()
    home = environ.get("HOME", "")
    caches = environ.get("XDG_CACHE_HOME") or os.path.join(home, ".cache")
    directory = environ.get("HF_HOME") or os.path.join(caches, "huggingface")
    try:
        with open(environ.get("HF_TOKEN_PATH") or os.path.join(directory, "token")) as file:
            return file.read().strip() or None
    except (OSError, ValueError):
        return None
