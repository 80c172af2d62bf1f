"""The data of a call: where it comes from, and whether it is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from kinetic_flows.code.data.sources import DataSources, Surroundings
from kinetic_flows.core.data import Data
from kinetic_flows.core.options import RunOptions
from kinetic_flows.core.settings.settings import Settings
from kinetic_flows.core.volumes import data_of_volumes
from kinetic_flows.platforms.base import Platform

HUB_TOKEN = "HF_TOKEN"  # noqa: S105 - the name of a variable


def data_of(payload_data: Sequence[Data], options: RunOptions) -> tuple[Data, ...]:
    """Return the data of a call, and behind it that of its volumes, as its job has them.

    Args:
        payload_data: The data in the pickled call.
        options: How it is to run.
    """
    return (*payload_data, *data_of_volumes(options.volumes))


def open_sources(
    payload_data: Sequence[Data],
    options: RunOptions,
    settings: Settings,
    platform: Platform,
    environ: Mapping[str, str],
) -> DataSources:
    """Return where the data of a function's calls comes from; nothing is asked or read for it.

    Args:
        payload_data: That in the first call, which has to be there as far as that is plain.
        options: How the function is to run.
        settings: The settings in force.
        platform: Where it will run.
        environ: This process's variables.

    Raises:
        PackagingError: A file or directory of this machine does not exist.
        UsageError: A volume cannot be where it will run.
    """
    sources = DataSources(
        Surroundings(
            home=settings.home,
            environ=environ,
            store=platform.store,
            open_bucket=platform.bucket,
            sees_files=platform.sees_files,
            is_compared=options.cache_for is not None,
            run_has_token=HUB_TOKEN in (options.secrets or ())
            or any(fnmatchcase(HUB_TOKEN, each) for each in options.capture_env_vars),
        )
    )
    sources.check(data_of(payload_data, options))
    if options.volumes:
        platform.check_volumes(options.volumes)
    return sources
