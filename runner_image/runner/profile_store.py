"""Bringing a profile from where it was taken to the run's outputs, as its viewers look for it.

XProf shows the directories below `plugins/profile` as sessions, and in each the files of its hosts:
so the hosts of a run that were profiled together are in one.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .asking import NoAnswer, Refused, ask_worker
from .profiling import PROFILE_FILE

if TYPE_CHECKING:
    from .door import Door

FOLDER = "profile"
"""Its place in the run's outputs: what XProf calls its log directory."""

SESSIONS = "plugins/profile"

ANSWER_SECONDS = 10.0
WRITE_SECONDS = 300.0
POLL_SECONDS = 0.1


def keep_profile(
    files: Sequence[Sequence[str]], outputs: str, session: str, host: int
) -> list[dict[str, Any]]:
    """Put the files of a trace among a run's outputs; return their names there and their sizes.

    Args:
        files: Path of each, and what its name is to end in.
        outputs: The outputs' directory or URI.
        session: The name under which viewers show it.
        host: The host's number.

    Raises:
        Exception: They cannot be stored; whatever the directory or the bucket raises.
    """
    put = _into_bucket(outputs) if "://" in outputs else _into_directory(outputs)
    kept = []
    for path, end in files:
        name = f"{FOLDER}/{SESSIONS}/{session}/host-{host}.{end}"
        kept.append({"name": name, "bytes": os.path.getsize(path)})
        put(path, name)
    return kept


def profile_of_call(directory: str, outputs: str, session: str, host: int) -> str:
    """Keep the profile of a call; return what is to be said about it.

    Args:
        directory: The directory of the worker that has made it.
        outputs: The outputs' directory or URI.
        session: The name under which viewers show it.
        host: The host's number.
    """
    try:
        with open(os.path.join(directory, PROFILE_FILE), encoding="utf-8") as file:
            told = json.load(file)
    except FileNotFoundError:
        return "there is no profile: the function's process has ended before it was written"
    if told["why"]:
        return f"there is no profile: {told['why']}"
    try:
        kept = keep_profile(told["files"], outputs, session, host)
    except Exception as error:  # noqa: BLE001 - the function has returned all the same
        return f"the profile cannot be stored: {type(error).__name__}: {error}"
    size = sum(each["bytes"] for each in kept)
    return (
        f"the profile of {told['seconds']:.1f} s ({told['tool']}, {size / 1e6:.1f} MB) is in "
        f"{outputs.rstrip('/')}/{FOLDER}"
    )


# Beside the worker


def main(door: Door, arguments: Sequence[str]) -> int:
    """Have the function's process profile its next seconds, keep that, and print what there is.

    Args:
        door: Where the process is.
        arguments: How many seconds, and the name under which viewers show it.
    """
    seconds, session = float(arguments[0]), arguments[1]
    directory = os.path.join(door.directory, f"profile-{session}")
    try:
        found = _taken(door, directory, seconds)
        told = found["told"]
        if told["why"]:
            raise Refused(told["why"])
        kept = keep_profile(told["files"], found["outputs"], session, door.host)
    except (NoAnswer, Refused) as error:
        print(json.dumps({"why": str(error).removeprefix("RuntimeError: ")}))
        return 0
    except Exception as error:  # noqa: BLE001 - whatever the bucket raises
        print(json.dumps({"why": f"it cannot be stored: {type(error).__name__}: {error}"}))
        return 0
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    print(
        json.dumps(
            {
                "tool": told["tool"],
                "seconds": told["seconds"],
                "outputs": found["outputs"],
                "files": kept,
            }
        )
    )
    return 0


def _taken(door: Door, directory: str, seconds: float) -> dict[str, Any]:
    asked = {"seconds": seconds, "directory": directory}
    found: dict[str, Any] = ask_worker(
        door.directory, "profile", asked, limit_seconds=ANSWER_SECONDS
    )
    deadline = time.monotonic() + seconds + WRITE_SECONDS
    while found["is_going_on"]:
        if time.monotonic() > deadline:
            raise NoAnswer(f"it has not written the profile after {WRITE_SECONDS:g} s")
        time.sleep(POLL_SECONDS)
        found = ask_worker(door.directory, "profile", limit_seconds=WRITE_SECONDS)
    return found


def _into_directory(outputs: str) -> Callable[[str, str], None]:
    def put(path: str, name: str) -> None:
        target = os.path.join(outputs, name)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        shutil.copyfile(path, target + ".new")
        os.replace(target + ".new", target)

    return put


def _into_bucket(outputs: str) -> Callable[[str, str], None]:
    from .data_sources import storage_client

    bucket_name, _, prefix = outputs.partition("://")[2].rstrip("/").partition("/")
    client = storage_client(os.environ)
    bucket = client.bucket(bucket_name)

    def put(path: str, name: str) -> None:
        bucket.blob(f"{prefix}/{name}" if prefix else name).upload_from_filename(path)

    return put
