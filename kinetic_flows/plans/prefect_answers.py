"""What a plan is told by Prefect, where it is there: a plan starts no server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kinetic_flows.clients.prefect.access import known_api_url
from kinetic_flows.clients.prefect.api import PrefectApi
from kinetic_flows.clients.prefect.history import RunHistory, Took, briefly
from kinetic_flows.clients.prefect.secret_blocks import SecretBlocks
from kinetic_flows.clients.prefect.server import PREFERRED_PORT, BackgroundServer
from kinetic_flows.clients.prefect.work_pools import WorkPools, no_work_pool
from kinetic_flows.core.errors import KineticError
from kinetic_flows.plans.draft import Draft
from kinetic_flows.plans.secrets import secret_sources

__all__ = ["PrefectAnswers", "Took", "ask_prefect"]


@dataclass(frozen=True, kw_only=True)
class PrefectAnswers:
    """What Prefect told.

    Attributes:
        api_url: The API that the call would use; None for a background server yet to start.
        template: The work pool's base job template; None for the one that ships.
        runs: How long the function's last runs took, newest first.
        builds: How long the last builds took.
        notices: What the call would say.
        obstacles: Why the call could not report to it.
        blocks: Which Secret blocks there are of those that the call names; None where it was not
            asked.
    """

    api_url: str | None
    template: Mapping[str, Any] | None = None
    runs: tuple[Took, ...] = ()
    builds: tuple[Took, ...] = ()
    notices: tuple[str, ...] = ()
    obstacles: tuple[str, ...] = ()
    blocks: frozenset[str] | None = None

    @property
    def expected_url(self) -> str:
        """Where the run is to report, as far as that can be told now."""
        return self.api_url or f"http://127.0.0.1:{PREFERRED_PORT}/api"


def ask_prefect(
    draft: Draft, environ: Mapping[str, str], *, has_to_be_built: bool
) -> PrefectAnswers:
    """Ask Prefect what a plan is to say, each thing once; nothing where no server runs.

    Args:
        draft: The call.
        environ: This process's variables.
        has_to_be_built: Whether it matters how long builds take.
    """
    api_url = _running_api(draft, environ)
    if api_url is None:
        return PrefectAnswers(api_url=None)
    try:
        with briefly(api_url) as api:
            template, notices = _template(draft, api_url)
            history = RunHistory(api)
            return PrefectAnswers(
                api_url=api_url,
                template=template,
                runs=history.runs(draft.name, str(draft.accelerator)),
                builds=history.builds() if has_to_be_built else (),
                notices=notices,
                blocks=_blocks(draft, api),
            )
    except KineticError as error:
        return PrefectAnswers(api_url=api_url, obstacles=(error.message,))


def _blocks(draft: Draft, api: PrefectApi) -> frozenset[str]:
    names = {each.name for each in secret_sources(draft).values() if each.kind == "prefect"}
    blocks = SecretBlocks(api)
    return frozenset(name for name in names if blocks.exists(name))


def _running_api(draft: Draft, environ: Mapping[str, str]) -> str | None:
    """Return the API to ask; None where the background server would have to be started."""
    known = known_api_url(environ)
    server = BackgroundServer(draft.settings.home, environ)
    if known:
        server.recognize(known)
        return known
    record = server.status()
    return record.api_url if record else None


def _template(draft: Draft, api_url: str) -> tuple[Mapping[str, Any] | None, tuple[str, ...]]:
    """Return the work pool's template, and what the call would say where there is none."""
    pool = draft.platform.launch_pool
    if pool is None:
        return None, ()
    template = WorkPools(api_url).read_template(pool.name, pool.type)
    return template, () if template is not None else (no_work_pool(pool.name),)
