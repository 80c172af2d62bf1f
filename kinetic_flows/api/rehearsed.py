"""The rehearsal of a remote function: what names its steps, and asking whether they fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

from kinetic_flows.core.api_boundary import at_api_boundary
from kinetic_flows.core.errors import UsageError
from kinetic_flows.core.lazy import LazyModule

if TYPE_CHECKING:
    from kinetic_flows.api import front
    from kinetic_flows.api.rehearsal import Rehearsal
    from kinetic_flows.api.remote_function import RemoteFunction
else:
    front = LazyModule("kinetic_flows.api.front")

F = TypeVar("F", bound=Callable[..., Any])


class Rehearsed:
    """What remote functions have to do with rehearsals."""

    rehearsed: Callable[..., Any] | None = None
    """The function that names the steps; None where none was named."""

    @at_api_boundary
    def rehearsal(self, function: F, /) -> F:
        """Name the steps that the function compiles, so that they can be compiled beforehand.

        The function that this decorates is given the devices of the accelerator, as jax has them
        for a compiler alone: none of them is here. It returns a compiled step and what it is
        called with, as shapes: `(step, args)`, `(step, args, kwargs)`, or a mapping of such by
        the names of several steps. A step is anything with `.lower()`, such as what `jax.jit`
        returns. A method's rehearsal is given the instance first. Of several the last counts.

        Example:
            ```python
            @train.rehearsal
            def _(devices):
                mesh = jax.make_mesh((8,), ("data",), devices=devices)
                return step, (params_shape, batch_shape)
            ```

        Args:
            function: What names the steps.

        Returns:
            The function, as it is.

        Raises:
            UsageError: It is no function.
        """
        if not callable(function):
            raise UsageError(
                f"rehearsal decorates a function, and {function!r} is none",
                value=repr(function),
                hint="write `@train.rehearsal` above a function of `devices`",
            )
        self.rehearsed = function
        return function

    @at_api_boundary
    def rehearse(self, accelerators: str | Sequence[str] | None = None) -> Rehearsal:
        """Compile the function's steps for accelerators that are not there, and say if they fit.

        That takes no accelerator: it compiles on this machine where the packages of the
        accelerator can be installed (Linux on x86-64), and else on a CPU of the cluster. It is a
        flow run of its own, `kinetic-rehearse`, which shows the table that is returned.

        Args:
            accelerators: What to compile for, by one name or several; None for what the function
                runs on, of a list all of it.

        Raises:
            UsageError: The function has no rehearsal.
            KineticError: It could not be made.
        """
        named = (accelerators,) if isinstance(accelerators, str) else accelerators
        return front.rehearse(cast("RemoteFunction[..., Any]", self), named)
