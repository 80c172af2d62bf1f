"""`kinetic runs stacks`: what every thread of a live run does at this moment."""

from __future__ import annotations

from kinetic_flows.api.run import attach
from kinetic_flows.cli.documents import Json, print_json
from kinetic_flows.cli.reading import require_something_to_read


def stacks(run_id: str, /, *, host: int | None = None, as_json: Json = False) -> None:
    """Print what every thread of a run does now, while native code of it hangs, too.

    Hosts that do the same are shown once, and the one that differs is named. The run is not
    disturbed. Where its image or project has py-spy, native code is shown as well.

    Args:
        run_id: Its id, the part of it that is shown, or its URL.
        host: Only this host, by its number counted over all slices.
        as_json: Print a JSON object, with all hosts.
    """
    require_something_to_read()
    run = attach(run_id)
    seen = run.stacks(host)
    if as_json:
        print_json({"id": run.id, "name": run.name, **seen.document()})
    else:
        print(seen)
