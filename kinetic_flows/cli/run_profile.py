"""`kinetic runs profile`: where the time of a live run goes."""

from __future__ import annotations

from kinetic_flows.api.run import attach
from kinetic_flows.cli.documents import Json, print_json
from kinetic_flows.cli.reading import require_something_to_read
from kinetic_flows.core.display import for_terminal


def profile(
    run_id: str, /, *, seconds: float = 10.0, host: int | None = None, as_json: Json = False
) -> None:
    """Profile the next seconds of a run, with the profiler of jax or torch, and say how to look.

    All its hosts are profiled at the same time. The trace is put among the run's outputs: XProf
    shows one of jax, Perfetto one of either. The run goes on.

    Args:
        run_id: Its id, the part of it that is shown, or its URL.
        seconds: How long. Up to 10 seconds, Python's own calls are in a trace of jax, too.
        host: Only this host, by its number counted over all slices.
        as_json: Print a JSON object.
    """
    require_something_to_read()
    run = attach(run_id)
    found = run.profile(seconds, host)
    if as_json:
        print_json({"id": run.id, "name": run.name, **found.document()})
    else:
        print(for_terminal(str(found)))
