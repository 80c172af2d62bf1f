"""The `kinetic` command: parses, prints and exits; everything else is the library's.

No command imports prefect or a cloud client before it needs it, and `--help` and `--version`
never do.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from cyclopts import App

from kinetic_flows import __version__
from kinetic_flows.cli.build_image import build_image
from kinetic_flows.cli.cluster import accelerators, pool_app
from kinetic_flows.cli.config import config
from kinetic_flows.cli.deployments import deployments_app
from kinetic_flows.cli.functions import lock, plan, run
from kinetic_flows.cli.images import check_image
from kinetic_flows.cli.runs import runs_app
from kinetic_flows.cli.server import server_app, ui
from kinetic_flows.core.display import for_terminal
from kinetic_flows.core.errors import KineticError
from kinetic_flows.core.home import usable_home

app = App(
    name="kinetic",
    help="Run Python functions on cloud accelerators as Prefect flow runs.",
    version=str(__version__),
    version_flags=["--version"],
)
app.command(run)
app.command(runs_app)
app.command(plan)
app.command(lock)
app.command(build_image)
app.command(accelerators)
app.command(config)
app.command(check_image)
app.command(deployments_app)
app.command(pool_app)
app.command(server_app)
app.command(ui)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command and exit: 0, or the code of the error's class.

    Args:
        arguments: What follows the command's name; None for this process's arguments.
    """
    try:
        with usable_home():
            app(sys.argv[1:] if arguments is None else arguments)
    except KineticError as error:
        print(for_terminal(f"kinetic: {error}"), file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output (`| head`) has enough; the flush at exit must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    sys.exit(0)
