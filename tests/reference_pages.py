"""An extension of griffe, which reads the source for the reference: options are parameters there.

What a function takes by `**options: Unpack[...]` is shown as `inspect.signature` shows it, with the
type that the list of options has, and its line of the docstring.
"""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any

from griffe import Extension, Function, Module, Parameter, ParameterKind

SPELLED_OUT = {
    "api.decorator.run": "core.option_list.Options",
    "api.remote_function.RemoteFunction.with_options": "core.option_list.Options",
    "api.remote_function.RemoteFunction.map": "plans.inputs.MapOptions",
}
"""The functions, and the TypedDict of their options."""


class OptionsAsParameters(Extension):
    """Replaces `**` by the options, before docstrings are parsed."""

    def on_package(self, *, pkg: Module, **_: Any) -> None:
        """Change the functions of the loaded package."""
        if pkg.name != "kinetic_flows":
            return
        for function, options in SPELLED_OUT.items():
            _spell_out(pkg[function], pkg[options])


def _spell_out(function: Function, options: Any) -> None:
    shown = inspect.signature(_runtime(function)).parameters
    for parameter in [each for each in function.parameters if each.kind.name == "var_keyword"]:
        del function.parameters[parameter.name]
    for name in options.attributes:
        function.parameters.add(
            Parameter(
                name,
                annotation=str(shown[name].annotation),
                kind=ParameterKind.keyword_only,
                default=repr(shown[name].default),
            )
        )
    # They are for type checkers, and say the same.
    function.overloads = None


def _runtime(function: Function) -> Any:
    found: Any = import_module(function.module.path)
    for part in function.path.removeprefix(f"{function.module.path}.").split("."):
        found = getattr(found, part)
    return found
