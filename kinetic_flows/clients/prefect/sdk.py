"""The door to Prefect: its modules, each imported when one of its names is first used.

Settings, plans and the commands of the background server need none of Prefect, whose import takes
most of a second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kinetic_flows.core.lazy import LazyModule

if TYPE_CHECKING:
    import httpx as httpx
    import prefect as prefect
    import pydantic as pydantic
    from prefect import context as context
    from prefect import exceptions as exceptions
    from prefect import settings as settings
    from prefect import states as states
    from prefect.blocks import core, system
    from prefect.client.schemas import actions as actions
    from prefect.client.schemas import filters as filters
    from prefect.client.schemas import objects as objects
    from prefect.client.schemas import sorting as sorting

    blocks, system_blocks = core, system
else:
    httpx = LazyModule("httpx")
    prefect = LazyModule("prefect")
    pydantic = LazyModule("pydantic")
    context = LazyModule("prefect.context")
    exceptions = LazyModule("prefect.exceptions")
    settings = LazyModule("prefect.settings")
    states = LazyModule("prefect.states")
    blocks = LazyModule("prefect.blocks.core")
    system_blocks = LazyModule("prefect.blocks.system")
    actions = LazyModule("prefect.client.schemas.actions")
    filters = LazyModule("prefect.client.schemas.filters")
    objects = LazyModule("prefect.client.schemas.objects")
    sorting = LazyModule("prefect.client.schemas.sorting")
