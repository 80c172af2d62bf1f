"""What to do about a module that no package of the run has."""

from __future__ import annotations

_OWN_PACKAGES = ("kinetic", "kinetic_flows")


def explain_missing(error: BaseException) -> None:
    """Add to an exception that a module is missing what to do about it, where that is known.

    Args:
        error: What was raised; its causes are left alone.
    """
    add_note = getattr(error, "add_note", None)
    name = getattr(error, "name", None)
    if not isinstance(error, ModuleNotFoundError) or not isinstance(name, str) or not add_note:
        return
    top = name.partition(".")[0]
    if top in _OWN_PACKAGES:
        add_note(
            f"hint: this run has no {name}: add kinetic-flows to the project's dependencies if the "
            "function needs it"
        )
        return
    if not top or is_there(top):
        return
    if top == "tensorflow" and _is_raised_in("keras", error):
        add_note(_about_the_backend())
        return
    add_note(
        f"hint: no package of this run has the module {top!r}: add the package that has it to the "
        "project's dependencies (requirements.txt, pyproject.toml or requirements=)"
    )


def _about_the_backend() -> str:
    if not is_there("jax") and not is_there("torch"):
        return (
            "hint: Keras has no backend in this run: add jax (or tensorflow, or torch) to the "
            "project's dependencies (requirements.txt, pyproject.toml or requirements=)"
        )
    return (
        "hint: Keras takes TensorFlow unless KERAS_BACKEND says otherwise: before keras is "
        "imported, set os.environ['KERAS_BACKEND'] to 'jax' or 'torch', or take your own along "
        "with capture_env_vars=['KERAS_BACKEND']"
    )


def _is_raised_in(package: str, error: BaseException) -> bool:
    trace = error.__traceback__
    while trace is not None:
        if str(trace.tb_frame.f_globals.get("__name__")).partition(".")[0] == package:
            return True
        trace = trace.tb_next
    return False


def is_there(module: str) -> bool:
    """Whether a module of this name can be imported, as far as that can be found out."""
    from importlib.util import find_spec

    try:
        return find_spec(module) is not None
    except (ImportError, ValueError, AttributeError):
        return True
