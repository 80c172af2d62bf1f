"""Finds the door of a run's host, and hands over to the runner that is behind it.

It is started with `python3 -c` beside the processes of a run, in their pod or on this machine, by
whoever looks at the run; it knows nothing of what can be asked there.

    python3 -c THIS RUN_ID HOST COMMAND [ARGUMENT...]

Exit code 69: no process of that run's host is here, or it has not come to its function.
"""

from __future__ import annotations

import glob
import json
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

EXIT_NO_DOOR = 69
PARENTS = ("/tmp", "/var/tmp", "/dev/shm", ".")  # noqa: S108 - where the bootstrap makes them


def main(arguments: list[str], environ: Mapping[str, str]) -> int:
    """Become the command of the runner behind the door; return only when there is none."""
    run_id, host, *command = arguments
    for path, door in doors(environ):
        if door["run_id"] == run_id and door["host"] == int(host) and is_live(door):
            python = door["python"]
            os.execv(python, [python, "-u", door["archive"], "beside", path, *command])  # noqa: S606 - it is to become that
    print(
        f"kinetic: host {host} of run {run_id} is not at its function here: it still prepares, "
        "it ends, or its runner is of an earlier version",
        file=sys.stderr,
    )
    return EXIT_NO_DOOR


def doors(environ: Mapping[str, str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the doors that this user has made, each with its path."""
    for parent in dict.fromkeys([environ.get("TMPDIR") or ".", *PARENTS]):
        for path in glob.glob(os.path.join(os.path.abspath(parent), "kinetic-*", "door.json")):
            try:
                if is_own(path):
                    with open(path, encoding="utf-8") as file:
                        yield path, json.load(file)
            except (OSError, ValueError):
                continue


def is_own(path: str) -> bool:
    """Whether a file is this user's in a directory of theirs: anybody may put one into `/tmp`."""
    place = os.lstat(os.path.dirname(path))
    owners = {place.st_uid, os.lstat(path).st_uid}
    return owners == {os.geteuid()} and not place.st_mode & 0o022


def is_live(door: Mapping[str, Any]) -> bool:
    """Whether a door's worker is there: one that was killed with all that it had left it open."""
    try:
        with open(f"/proc/{door['worker']}/cmdline", "rb") as file:
            return os.fsencode(door["directory"]) in file.read()
    except OSError:
        return not os.path.exists("/proc/self")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
