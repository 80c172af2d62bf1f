"""Data of the web: one file, checked against the digest that its user gave."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from .contract import READ_BYTES
from .data_checks import Check, Refused
from .data_draft import FILE_MODE, Draft, write_whole
from .data_http import Http, HttpRefusal, Unreachable, unavailable

_BEHIND_THE_END = 416
"""What is answered where nothing is left of a file."""


def bring_file(spec: Mapping[str, Any], environ: Mapping[str, str], draft: Draft) -> None:
    """Fetch a file, going on with what an earlier try has left of it.

    Raises:
        Fault: It cannot be fetched, or has another digest.
    """
    partial = draft.sliced(spec["name"])
    http = Http(draft.work, environ)
    try:
        is_resumed = os.path.exists(partial) and os.path.getsize(partial) > 0
        try:
            _fetch(spec, http, partial, draft)
        except Refused:
            os.unlink(partial)
            if not is_resumed:
                raise
            # What was left may have been of another file of this address.
            _fetch(spec, http, partial, draft)
    except (HttpRefusal, Unreachable) as error:
        raise unavailable(spec["source"], error) from error
    os.chmod(partial, FILE_MODE)
    os.rename(partial, draft.path(spec["name"]))
    draft.work.add_file()


def _fetch(spec: Mapping[str, Any], http: Http, partial: str, draft: Draft) -> None:
    check = Check(spec["source"], spec["size_bytes"], f"sha256:{spec['identity']}")
    with open(partial, "a+b", buffering=0) as file:
        file.seek(0)
        while piece := file.read(READ_BYTES):
            check.update(piece)
            draft.work.reuse(len(piece))
        for piece in _rest(http, spec["place"]["url"], file.tell()):
            check.update(piece)
            draft.work.add(len(piece))
            write_whole(file.fileno(), piece)
    check.finish()


def _rest(http: Http, url: str, begin: int) -> Iterator[bytes]:
    try:
        yield from http.stream(url, begin, None)
    except HttpRefusal as error:
        if not begin or error.code != _BEHIND_THE_END:
            raise
