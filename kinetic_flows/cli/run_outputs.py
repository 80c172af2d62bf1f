"""`kinetic runs outputs`: the files that a run has written, and a copy of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from kinetic_flows.api.run import attach
from kinetic_flows.cli.documents import Json, print_json
from kinetic_flows.cli.reading import require_something_to_read
from kinetic_flows.cli.tables import print_table
from kinetic_flows.core.display import counted
from kinetic_flows.core.files import size_in_units
from kinetic_flows.core.moments import local


def outputs(
    run_id: str,
    pattern: str | None = None,
    /,
    *,
    to: Annotated[Path | None, Parameter(name="--to")] = None,
    as_json: Json = False,
) -> None:
    """List the files that a run has written to its output directory, or copy them here.

    A copy is checked file by file against checksums. What is there already is not read again, and
    what was broken off goes on where it was.

    Args:
        run_id: Its id, the part of it that is shown, or its URL.
        pattern: Only files whose names match, such as 'checkpoints/*'.
        to: The directory to copy them to, which is made; nothing in it is removed.
        as_json: Print a JSON object.
    """
    require_something_to_read()
    run = attach(run_id)
    directory = run.outputs
    if to is not None:
        done = directory.fetch(to, pattern)
        if as_json:
            print_json(
                {
                    "id": run.id,
                    "outputs": str(directory),
                    "to": str(done.directory),
                    "files": done.files,
                    "bytes": done.size_bytes,
                    "kept": done.kept,
                    "read_bytes": done.read_bytes,
                    "gone": list(done.gone),
                }
            )
        else:
            print(done.directory)
        return
    files = directory.ls(pattern)
    rows: list[dict[str, Any]] = [
        {"name": file.name, "bytes": file.size_bytes, "updated": file.updated.isoformat()}
        for file in files
    ]
    if as_json:
        print_json({"id": run.id, "outputs": str(directory), "files": rows})
        return
    if files:
        print_table(
            [(size_in_units(each.size_bytes), local(each.updated), each.name) for each in files]
        )
    total = size_in_units(sum(file.size_bytes for file in files))
    print(f"{counted(len(files), 'file')}, {total}: {directory}" if files else f"none: {directory}")
