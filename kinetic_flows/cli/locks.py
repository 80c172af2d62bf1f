"""`kinetic lock`: what a function's dependencies resolve to."""

from __future__ import annotations

import sys

from kinetic_flows.cli.targets import load_function


def lock(target: str, /, *, upgrade: bool = False) -> None:
    """Print the lock of a function's dependencies, and store it for everyone.

    Args:
        target: FILE:FUNCTION, such as train.py:train.
        upgrade: Resolve again, and replace the stored lock.
    """
    from kinetic_flows.code.root import working_directory
    from kinetic_flows.core.progress import NullProgress
    from kinetic_flows.core.settings.settings import process_environment
    from kinetic_flows.plans.draft import Call, draft_call, lock_draft
    from kinetic_flows.platforms.choose import choose_platform
    from kinetic_flows.runs.session import configure

    function = load_function(target)
    environ = process_environment()
    settings = configure(environ, NullProgress())
    platform = choose_platform(settings, environ)
    call = Call(
        function=function.fn,
        args=(),
        kwargs={},
        options=function.options,
        may_lack_arguments=True,
    )
    draft = draft_call(call, settings, platform, cwd=working_directory(), sys_path=sys.path)
    locked = lock_draft(draft, environ, upgrade=upgrade)
    print(f"dependencies: {draft.source.label}", file=sys.stderr)
    for warning in (*draft.warnings, *locked.warnings):
        print(f"warning: {warning}", file=sys.stderr)
    print(locked.text, end="")
