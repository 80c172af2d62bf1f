"""`kinetic runs why`: the likely cause of a run's end, in one sentence, and what says so."""

from __future__ import annotations

from kinetic_flows.api.run import attach
from kinetic_flows.cli.documents import Json, print_json
from kinetic_flows.cli.reading import require_something_to_read


def why(run_id: str, /, *, as_json: Json = False) -> None:
    """Say why a run ended: one sentence that names the likely cause and the host.

    It is concluded from what each host saw last (its last lines, what its threads did, what it
    used, how its process ended) and from what the cluster says of its pods and nodes. What is
    unknown is called unknown.

    Args:
        run_id: Its id, the part of it that is shown, or its URL.
        as_json: Print a JSON object, with all that is known.
    """
    require_something_to_read()
    found = attach(run_id).why()
    if as_json:
        print_json(found.document())
    else:
        print(found)
