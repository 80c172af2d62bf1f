"""The `kinetic` command: parses, prints and exits; everything else is the library's.

A command's module is imported when it is called, so that none waits for what another needs;
`--help` and `--version` import none.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from cyclopts import App

from kinetic_flows import __version__
from kinetic_flows.cli.documents import begin_command, error_document, has_printed, print_json
from kinetic_flows.core.display import for_terminal
from kinetic_flows.core.errors import KineticError
from kinetic_flows.core.home import usable_home

app = App(
    name="kinetic",
    help="Run Python functions on cloud accelerators as Prefect flow runs.",
    version=str(__version__),
    version_flags=["--version"],
)

COMMANDS = {
    "run": (
        "functions:run",
        "Call a function with arguments of the command line, show its output and print its value.",
    ),
    "runs": ("runs:runs_app", "Runs of remote functions, wherever they were started."),
    "plan": ("functions:plan", "Print what a call of a function would do, and do nothing of it."),
    "lock": (
        "functions:lock",
        "Print the lock of a function's dependencies, and store it for everyone.",
    ),
    "build-image": (
        "build_image:build_image",
        (
            "Build base images with Cloud Build and push them to Artifact Registry or Docker Hub."
            "\n\n"
            "Without --repo it asks. Afterwards set KINETIC_BASE_IMAGE_REPO to the repository."
        ),
    ),
    "accelerators": (
        "cluster:accelerators",
        "List every accelerator that GKE offers, by the names that `accelerator=` takes.",
    ),
    "config": (
        "config:config",
        "Print every setting in force, and where its value came from.",
    ),
    "check-image": (
        "images:check_image",
        "Look at an image, without pulling it, and say whether it can run this Python's calls.",
    ),
    "deployments": (
        "deployments:deployments_app",
        "Deployments of functions, made by train.deploy().",
    ),
    "worker": ("worker:worker_app", "Workers, which start the runs of deployments."),
    "pool": ("cluster:pool_app", "The Prefect work pool that runs on GKE go to."),
    "server": ("server:server_app", "The background Prefect server of this machine."),
    "prefect": (
        "prefect_commands:prefect",
        (
            "Run a command of Prefect's own with the address and the password of the API in use."
            "\n\n"
            "Without PREFECT_API_URL that is the background server, which is started if need be."
        ),
    ),
    "ui": (
        "server:ui",
        "Open the UI of the background Prefect server, without typing its password.",
    ),
}
"""Where each command is, which is imported when it is called, and what the overview says of it."""

for _name, (_where, _help) in COMMANDS.items():
    app.command(f"kinetic_flows.cli.{_where}", name=_name, help=_help)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command and exit: 0, or the code of the error's class.

    Args:
        arguments: What follows the command's name; None for this process's arguments.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    begin_command()
    try:
        with usable_home():
            app(arguments)
    except KineticError as error:
        if "--json" in arguments and not has_printed():
            print_json(error_document(error))
        print(for_terminal(f"kinetic: {error}"), file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output (`| head`) has enough; the flush at exit must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    sys.exit(0)
