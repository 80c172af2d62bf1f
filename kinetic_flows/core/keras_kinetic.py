"""Words of keras-team/kinetic, whose module has the same name, and what is written here instead.

People bring decorators and commands along that were written for it. One table answers them all,
in errors and in docs/coming-from-keras-kinetic.md, which has these rows. Nothing imports this
module before something is wrong. Its words are those of https://kinetic.readthedocs.io.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from kinetic_flows.core.errors import UsageError, suggest

THEIRS = "keras-team/kinetic"


class Word(NamedTuple):
    """A word of theirs.

    Attributes:
        written: How it is written for them.
        instead: What to write, or to do, here.
    """

    written: str
    instead: str


_DEBUGGING = (
    "`debug=True`, with which a run waits for a debugger; `kinetic runs forward ID PORT` leads one"
    " there"
)

OPTIONS: Mapping[str, Word] = {
    "spot": Word("spot=True", '`accelerator="l4:spot"`, with `:spot` behind any name'),
    "backend": Word(
        'backend="pathways"',
        "leave it out: the accelerator says how many hosts a slice has, and the function is called"
        " on each",
    ),
    "namespace": Word('namespace="team"', "set `KINETIC_NAMESPACE`, or have it in a saved profile"),
}
"""Options of their `kinetic.run` that ours has not."""

MAP_OPTIONS: Mapping[str, Word] = {
    "cancel_running_on_fail": Word(
        "cancel_running_on_fail=True", "`fail_fast=True`, which cancels those that are running too"
    ),
}
"""Options of their `run_async_map` that our `map` has not."""

MODULE: Mapping[str, Word] = {
    "submit": Word("submit", "decorate with `@kinetic.run(...)`, and call `train.submit(...)`"),
    "run_async": Word("run_async", "`train.submit(...)`, which returns a `kinetic.Run`"),
    "run_async_map": Word(
        "run_async_map", "`train.map(inputs)`, which returns a `kinetic.RunGroup`"
    ),
    "map": Word("map(train, inputs)", "`train.map(inputs)`"),
    "collections": Word("collections.map(train, inputs)", "`train.map(inputs)`"),
    "list_jobs": Word("list_jobs()", "`kinetic.list_runs()`"),
    "attach_batch": Word("attach_batch(id)", "`kinetic.attach_group(id)`"),
    "JobHandle": Word("JobHandle", "`kinetic.Run`"),
    "BatchHandle": Word("BatchHandle", "`kinetic.RunGroup`"),
    "BatchError": Word(
        "BatchError",
        "`results()` raises what the first input raised; with"
        " `train.map(inputs, return_exceptions=True)` it has every exception in its place",
    ),
    "RemoteCallable": Word("RemoteCallable", "`kinetic.RemoteFunction`"),
    "JobStatus": Word(
        "job_status.JobStatus",
        "`run.state` is a text: Pending, Running, Completed, Failed, Crashed, Cancelled, ...",
    ),
    "job_status": Word(
        "job_status",
        "`run.state` is a text: Pending, Running, Completed, Failed, Crashed, Cancelled, ...",
    ),
    "jobs": Word("jobs", "`kinetic.Run`, `kinetic.attach(id)` and `kinetic.list_runs()`"),
    "debug": Word("debug", _DEBUGGING),
}
"""Names of their module, behind `kinetic.`."""

FUNCTION: Mapping[str, Word] = {
    "run_async": Word("train.run_async(...)", "`train.submit(...)`"),
    "run_async_map": Word("train.run_async_map(inputs)", "`train.map(inputs)`"),
}
"""What their decorated function has."""

RUN: Mapping[str, Word] = {
    "job_id": Word("job.job_id", "`run.id`"),
    "func_name": Word("job.func_name", "`run.function`"),
    "status": Word("job.status()", "`run.state`, a text"),
    "tail": Word("job.tail(n=100)", "`run.logs(tail=100)`, a list of lines"),
    "cleanup": Word(
        "job.cleanup()", "nothing: `kinetic runs cleanup` removes what is older than is kept"
    ),
    "debug_attach": Word("job.debug_attach()", _DEBUGGING),
}
"""What their handle of a run has."""

GROUP: Mapping[str, Word] = {
    "group_id": Word("batch.group_id", "`group.id`"),
    "jobs": Word("batch.jobs", "`group.runs`"),
    "statuses": Word(
        "batch.statuses()", "`group.status_counts()`; `run.state` of each of `group.runs`"
    ),
    "failures": Word(
        "batch.failures()", '`[run for run in group.runs if run.state in ("Failed", "Crashed")]`'
    ),
    "cleanup": RUN["cleanup"]._replace(written="batch.cleanup()"),
}
"""What their handle of a sweep has."""

OWNERS: Mapping[str, Mapping[str, Word]] = {
    "RemoteFunction": FUNCTION,
    "Run": RUN,
    "RunGroup": GROUP,
}
"""What theirs have that ours lack, by the name of ours."""

_TIMEOUT = "`timeout_seconds=3600`"
_KEPT = "leave it out: to read a result deletes nothing"

ARGUMENTS: Mapping[tuple[str, str], Word] = {
    ("Run.result", "timeout"): Word("job.result(timeout=3600)", _TIMEOUT),
    ("Run.result", "cleanup"): Word("job.result(cleanup=False)", _KEPT),
    ("Run.result", "stream_logs"): Word(
        "job.result(stream_logs=True)",
        "leave it out, and print what `run.logs(follow=True)` yields, or call `train(...)` itself",
    ),
    ("RunGroup.results", "timeout"): Word("batch.results(timeout=3600)", _TIMEOUT),
    ("RunGroup.results", "cleanup"): Word("batch.results(cleanup=False)", _KEPT),
    ("RunGroup.results", "ordered"): Word(
        "batch.results(ordered=False)", "`group.as_completed()` yields runs as they end"
    ),
    ("RunGroup.results", "return_exceptions"): Word(
        "batch.results(return_exceptions=True)", "`train.map(inputs, return_exceptions=True)`"
    ),
    ("RunGroup.as_completed", "timeout"): Word("batch.as_completed(timeout=3600)", _TIMEOUT),
    ("RunGroup.as_completed", "poll_interval"): Word(
        "batch.as_completed(poll_interval=5)", "leave it out: nobody polls"
    ),
    ("RunGroup.wait", "timeout"): Word("batch.wait(timeout=3600)", _TIMEOUT),
    ("attach", "project"): Word('kinetic.attach(id, project="...")', "set `KINETIC_PROJECT`"),
    ("attach", "cluster"): Word('kinetic.attach(id, cluster="...")', "set `KINETIC_CLUSTER`"),
    ("attach_group", "project"): Word(
        'kinetic.attach_batch(id, project="...")', "set `KINETIC_PROJECT`"
    ),
    ("attach_group", "cluster"): Word(
        'kinetic.attach_batch(id, cluster="...")', "set `KINETIC_CLUSTER`"
    ),
}
"""Keywords of their methods, by method and keyword."""

DATA: Mapping[str, Word] = {
    "fuse": Word('Data("gs://...", fuse=True)', '`Data("gs://...", mode="mount")`'),
    "hf_trust_remote_code": Word(
        "Data(..., hf_trust_remote_code=True)",
        "leave it out: the repository's files are copied, and nothing in them is run; whatever"
        " loads them in the function decides",
    ),
    "hf": Word(
        'Data("hf://user/repo?split=train")',
        '`Data("hf://datasets/user/repo")`, which copies the repository\'s files; in the function,'
        ' `datasets.load_dataset(str(path), split="train")`',
    ),
}
"""What they say of data, by the name of the option."""

COMMANDS: Mapping[str, Word] = {
    "pool add": Word("pool add --accelerator l4", "`kinetic nodepools add l4`"),
    "pool list": Word("pool list", "`kinetic nodepools ls`"),
    "pool remove": Word("pool remove NAME", "`kinetic nodepools remove NAME`"),
    "jobs list": Word("jobs list", "`kinetic runs ls`"),
    "jobs status": Word("jobs status ID", "`kinetic runs show ID`"),
    "jobs logs": Word("jobs logs ID", "`kinetic runs logs ID`, with --follow or --tail 9"),
    "jobs result": Word("jobs result ID", "`kinetic runs result ID`"),
    "jobs cancel": Word("jobs cancel ID", "`kinetic runs cancel ID`"),
    "jobs cleanup": Word(
        "jobs cleanup ID",
        "nothing: `kinetic runs cleanup` removes what is older than is kept",
    ),
    "jobs debug": Word("jobs debug ID", _DEBUGGING),
    "jobs": Word("jobs", "`kinetic runs`"),
    "config show": Word("config show", "`kinetic config`"),
    "config set": Word(
        "config set KEY VALUE",
        "`kinetic profile create NAME --update --set KEY=VALUE`, `[tool.kinetic]` of"
        " `pyproject.toml`, or a variable",
    ),
    "config unset": Word(
        "config unset KEY",
        "take it out of `[tool.kinetic]` of `pyproject.toml`, or save the profile anew",
    ),
    "build-base": Word("build-base", "`kinetic build-image`"),
    "--profile": Word(
        "--profile NAME COMMAND",
        "`KINETIC_PROFILE=NAME` before the command, or `kinetic profile use NAME` once",
    ),
    "--project": Word("COMMAND --project ID", "`KINETIC_PROJECT=ID` before the command"),
    "--zone": Word("COMMAND --zone ZONE", "`KINETIC_ZONE=ZONE` before the command"),
    "--cluster": Word("COMMAND --cluster NAME", "`KINETIC_CLUSTER=NAME` before the command"),
    "--namespace": Word("COMMAND --namespace NAME", "`KINETIC_NAMESPACE=NAME` before the command"),
}
"""Their commands, by the words that begin them, and options of all of them."""

VARIABLES: Mapping[str, Word] = {
    "LOG_LEVEL": Word(
        "LOG_LEVEL", "`KINETIC_PROGRESS=verbose` or `quiet`; `KINETIC_DEBUG=1` for errors"
    ),
    "STATE_DIR": Word("STATE_DIR", "what was made is known by its labels, not by a file: unset it"),
    "STATE_BACKEND": Word("STATE_BACKEND", "what was made is known by its labels: unset it"),
    "SETTINGS_FILE": Word("SETTINGS_FILE", "settings are in `[tool.kinetic]` of `pyproject.toml`"),
    "PROFILES_FILE": Word("PROFILES_FILE", "profiles are saved in Prefect: `kinetic profile ls`"),
    "DEBUG_WAIT_TIMEOUT": Word(
        "DEBUG_WAIT_TIMEOUT", "how long is waited for one is fixed: unset it"
    ),
}
"""Their variables that are no settings of ours, behind `KINETIC_`."""

_HUB = re.compile(r"hf://(?!datasets(?:/|$)|models(?:/|$))([\w.-]+(?:/[\w.-]+)?)/?(?:\?(.*))?")
_KEYWORD = re.compile(r"([\w.]+)\(\) got an unexpected keyword argument '(\w+)'")


def refused_options(
    where: str,
    given: Mapping[str, Any],
    valid: Iterable[str],
    *,
    words: Mapping[str, Word],
    accelerator: str | None = None,
) -> UsageError:
    """Return the error for options that there are not: one, however many they are.

    Args:
        where: What was called, such as `kinetic.run()`.
        given: The options, at least one.
        valid: The names of those that there are.
        words: Words of theirs that may be among them.
        accelerator: What the same call runs on; None where it does not say.
    """
    names = [repr(name) for name in given]
    listed = ", ".join(names[:-1]) + " and " + names[-1] if names[1:] else names[0]
    theirs = [
        Word(f"{name}={value!r:.80}", _instead(name, value, words[name], accelerator))
        for name, value in given.items()
        if name in words
    ]
    others = [name for name in given if name not in words]
    hints = [told(*theirs)] if theirs else []
    if others:
        hints.append(suggest(others[0] if not others[1:] else "", valid))
    return UsageError(
        f"{where} has no option{'s' if names[1:] else ''} {listed}",
        value=next(iter(given)) if not names[1:] else tuple(given),
        hint="\n  ".join(hints),
    )


def told(*words: Word) -> str:
    """Return what an error says of words of theirs."""
    if len(words) == 1:
        return f"instead of {words[0].written} ({THEIRS}): {words[0].instead}"
    lines = "".join(f"\n    {word.written}: {word.instead}" for word in words)
    return f"instead of what {THEIRS} has:{lines}"


def missing_name(name: str) -> AttributeError:
    """Return the error for a name that `kinetic` has not."""
    words = {name: behind("kinetic.", MODULE[name])} if name in MODULE else {}
    return missing_attribute("module 'kinetic'", name, words)


def variable_hint(name: str) -> str | None:
    """Return what to say of an environment variable of theirs; None for nothing."""
    word = VARIABLES.get(name.removeprefix("KINETIC_"))
    return told(behind("KINETIC_", word)) if word else None


def missing_attribute(owner: str, name: str, words: Mapping[str, Word]) -> AttributeError:
    """Return the error for an attribute that there is not.

    Args:
        owner: What lacks it, as Python's own error says it.
        name: The attribute.
        words: What theirs has.
    """
    text = f"{owner} has no attribute {name!r}"
    return AttributeError(f"{text}; {told(words[name])}" if name in words else text)


def note_for(error: TypeError) -> str | None:
    """Return what to say of a call with a keyword that there is not; None for nothing.

    Args:
        error: What Python raised for the call.
    """
    found = _KEYWORD.search(str(error))
    word = ARGUMENTS.get((found[1], found[2])) if found else None
    return f"  hint: {told(word)}" if word else None


def hub_hint(source: str) -> str | None:
    """Return what to write instead of a source on the hub as theirs has it; None if it is none.

    Args:
        source: What begins with `hf://`.
    """
    found = _HUB.fullmatch(source)
    if found is None:
        return None
    query = dict(parse_qsl(found[2] or ""))
    revision = query.pop("revision", "")
    ours = f"hf://datasets/{found[1]}{'@' if revision else ''}{revision}"
    loading = "".join(f", {name.replace('config_name', 'name')}={query[name]!r}" for name in query)
    then = f"; in the function: `datasets.load_dataset(str(path){loading})`" if query else ""
    return told(Word(source, f"`{ours}`, which copies the repository's files{then}"))


def command_hint(arguments: Sequence[str], problem: str) -> str | None:
    """Return what to run instead of a command of theirs; None for nothing.

    Args:
        arguments: What follows `kinetic`.
        problem: What is wrong with them, which names the first that is.
    """
    plain = [each for each in arguments if not each.startswith("-")]
    named = re.findall(r"[\w-]+", problem)
    options = [each for each in COMMANDS if each.startswith("-") and each in named]
    for begin in (" ".join(plain[:2]), *plain[:1], *options):
        if begin in COMMANDS:
            return told(behind("kinetic ", COMMANDS[begin]))
    return None


def behind(prefix: str, word: Word) -> Word:
    """Return a word as it is written behind what all of its table have before them."""
    return word._replace(written=f"{prefix}{word.written}")


def _instead(name: str, value: Any, word: Word, accelerator: str | None) -> str:
    if value is None or value is False:
        return "leave it out"
    if name == "spot" and str(accelerator).endswith(":spot"):
        return "leave it out: the accelerator says it"
    if name == "spot" and accelerator:
        return f'`accelerator="{accelerator}:spot"`'
    return word.instead
