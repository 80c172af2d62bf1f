"""What editors are told, by their people, to attach to a run that waits for a debugger."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

ADDRESS = "127.0.0.1"

HERE = "."
"""The run's directory of the project, as its debugger resolves it while it waits: it is another
one in each run, and a configuration of an editor is to hold for all."""


@dataclass(frozen=True, kw_only=True)
class Attachable:
    """A host that waits for a debugger.

    Attributes:
        host: Its number.
        port: The port on this machine's loopback address that leads there.
    """

    host: int
    port: int


FIRST_PORT = 5678
"""Where the debugger of host 0 listens, host N's at the N-th after it, unless that is taken."""


def submitted_words(name: str, run_id: str, hosts: int, root: str, *, is_here: bool) -> str:
    """Return what to do for a run that nobody waits for yet.

    Args:
        name: The run's function.
        run_id: Its id.
        hosts: How many hosts it has.
        root: The directory of this machine that shipped.
        is_here: Whether it runs on this machine.
    """
    ports = [Attachable(host=host, port=FIRST_PORT + host) for host in range(hosts)]
    words = editor_words(name, ports, root)
    if is_here:
        return words
    option = " --host N" if hosts > 1 else ""
    port = f"{FIRST_PORT} + N" if hosts > 1 else str(FIRST_PORT)
    way = f"kinetic runs forward {run_id} {port}{option}"
    return f"{words}\nwhat leads there: {way}, or whoever waits for the run's result"


def editor_words(name: str, hosts: Sequence[Attachable], root: str) -> str:
    """Return what to do in an editor.

    Args:
        name: The run's function.
        hosts: Its hosts, one at least.
        root: The directory of this machine that shipped; empty for the editor's own folder.
    """
    places = ", ".join(
        f"{ADDRESS}:{each.port}" + (f" (host {each.host})" if len(hosts) > 1 else "")
        for each in hosts
    )
    first, folder = hosts[0], root or "the project's directory"
    pycharm = (
        f"PyCharm: Run | Edit Configurations | Attach to DAP, with the remote address {ADDRESS}:"
        f"{first.port}, the local project path {folder}, and the remote project path {HERE}"
    )
    return "\n".join(
        [
            f"attach a debugger to {places}",
            "VS Code, among the configurations of .vscode/launch.json:",
            _json(configurations(name, hosts, root)),
            *_compound(name, hosts),
            pycharm,
        ]
    )


def configurations(name: str, hosts: Sequence[Attachable], root: str) -> list[dict[str, Any]]:
    """Return entries of VS Code's `launch.json`, one for each host.

    Their fields are those of https://code.visualstudio.com/docs/python/debugging.

    Args:
        name: The run's function.
        hosts: Its hosts.
        root: The directory of this machine that shipped; empty for the editor's own folder.
    """
    mapping = {"localRoot": root or "${workspaceFolder}", "remoteRoot": HERE}
    return [
        {
            "name": _name(name, each, hosts),
            "type": "debugpy",
            "request": "attach",
            "connect": {"host": ADDRESS, "port": each.port},
            "pathMappings": [mapping],
        }
        for each in hosts
    ]


def _compound(name: str, hosts: Sequence[Attachable]) -> list[str]:
    """Return what attaches to all hosts at once."""
    if len(hosts) == 1:
        return []
    names = [_name(name, each, hosts) for each in hosts]
    return [
        "and, among its compounds, to attach to all hosts at once:",
        _json([{"name": f"kinetic: {name}", "configurations": names}]),
    ]


def _name(name: str, host: Attachable, hosts: Sequence[Attachable]) -> str:
    return f"kinetic: {name}" + (f", host {host.host}" if len(hosts) > 1 else "")


def _json(entries: Sequence[dict[str, Any]]) -> str:
    """Return entries of a list as they stand in a file, one a line so that they can be copied."""
    return ",\n".join(f"  {json.dumps(each)}" for each in entries)
