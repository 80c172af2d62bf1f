"""The commands of `kinetic`: where each is, and what the overview says of it.

A command's module is imported when it is called, so that none waits for what another needs;
`--help` imports none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cyclopts import App, Group

from kinetic_flows.cli.examples import examples
from kinetic_flows.cli.help_panels import HelpPanels
from kinetic_flows.core.version import VERSION

SETUP = Group.create_ordered("Google Cloud, from an empty project")
FUNCTIONS = Group.create_ordered("Functions")
RUNS = Group.create_ordered("Runs and deployments")
CLUSTER = Group.create_ordered("Images and clusters")
PREFECT = Group.create_ordered("Prefect")
ABOUT = Group.create_ordered("Settings and help")


@dataclass(frozen=True, kw_only=True)
class Command:
    """One command, or several below one word.

    Attributes:
        where: Its module in this package and its name there.
        group: Under which heading the overview has it.
        help: What its help begins with; the overview shows the first sentence.
        examples: How it is called; a word for several commands has theirs.
    """

    where: str
    group: Group
    help: str
    examples: tuple[str, ...] = ()


COMMANDS: Mapping[str, Command] = {
    "init": Command(
        where="setup.init:init",
        group=SETUP,
        help=(
            "Set up everything that runs need on Google Cloud, and run a first function there."
            "\n\n"
            "It asks for what is not given, looks at what is there, shows what it would do and "
            "what that costs, and asks once before it does anything. Given again, it goes on from "
            "what is there."
        ),
        examples=(
            "kinetic init",
            "kinetic init --dry-run --project my-project",
            "kinetic init --yes --project my-project --accelerator l4:spot",
            "kinetic init --project my-project --cluster shared --join",
        ),
    ),
    "up": Command(
        where="setup.up:up",
        group=SETUP,
        help=(
            "Make what runs need on Google Cloud, or bring it to what is wanted."
            "\n\n"
            "It compares what is wanted with what is there, prints the difference and what it "
            "costs, asks, and changes only what differs. What is there and not named stays: "
            "`kinetic down` removes all of it."
        ),
        examples=(
            "kinetic up",
            "kinetic up --accelerator l4 --accelerator tpu-v6e-8:spot --max-nodes 4",
            "kinetic up --member user:alice@example.com --kueue --yes",
            "kinetic up --dry-run --json | jq .monthly_usd",
        ),
    ),
    "status": Command(
        where="setup.status:status",
        group=SETUP,
        help="Show everything that was set up, whether it is as wanted, and what runs.",
        examples=("kinetic status", "kinetic status --json | jq .as_wanted"),
    ),
    "down": Command(
        where="setup.down:down",
        group=SETUP,
        help=(
            "Remove what was set up: the cluster and all that is around it."
            "\n\n"
            "What was not made here is left, and so is what holds people's data: buckets and "
            "images go with --purge only. It says what it leaves, and why."
        ),
        examples=("kinetic down --dry-run", "kinetic down", "kinetic down --purge --yes"),
    ),
    "nodepools": Command(
        where="setup.nodepools:nodepools_app",
        group=SETUP,
        help="Node pools of the cluster: machines with an accelerator, made while runs need them.",
    ),
    "run": Command(
        where="functions:run",
        group=FUNCTIONS,
        help=(
            "Call a function with arguments of the command line, show its output and print its "
            "value."
        ),
        examples=(
            "kinetic run train.py:train --rate 0.1",
            "kinetic run train.py:train --help",
            "kinetic run package.module:train 0.1 --detach",
            "kinetic run train.py:train --rate 0.1 --json | jq .result",
        ),
    ),
    "plan": Command(
        where="plan:plan",
        group=FUNCTIONS,
        help="Print what a call of a function would do, and do nothing of it.",
        examples=(
            "kinetic plan train.py:train --rate 0.1",
            "kinetic plan train.py:train --files",
            "kinetic plan train.py:train --accelerator l4x2:spot",
            "kinetic plan train.py:train --json | jq .obstacles",
        ),
    ),
    "rehearse": Command(
        where="rehearse:rehearse",
        group=FUNCTIONS,
        help=(
            "Compile a function's steps for accelerators without having any, and print whether "
            "they fit."
            "\n\n"
            "The function has a rehearsal, made with `@train.rehearsal`, that says what is "
            "compiled. Exits with 1 where nothing fits."
        ),
        examples=(
            "kinetic rehearse train.py:train",
            "kinetic rehearse train.py:train --accelerator v6e-8,tpu7x-2x2x1",
            "kinetic rehearse train.py:train --json | jq -r .smallest_that_fits",
        ),
    ),
    "lock": Command(
        where="functions:lock",
        group=FUNCTIONS,
        help="Print the lock of a function's dependencies, and store it for everyone.",
        examples=("kinetic lock train.py:train", "kinetic lock train.py:train --upgrade"),
    ),
    "runs": Command(
        where="runs:runs_app",
        group=RUNS,
        help="Runs of remote functions, wherever they were started.",
    ),
    "deployments": Command(
        where="deployments:deployments_app",
        group=RUNS,
        help="Deployments of functions, made by train.deploy().",
    ),
    "worker": Command(
        where="worker:worker_app",
        group=RUNS,
        help="Workers, which start the runs of deployments.",
    ),
    "accelerators": Command(
        where="accelerators:accelerators",
        group=CLUSTER,
        help=(
            "List every accelerator that GKE offers, by the names that `accelerator=` takes."
            "\n\n"
            "GPUs are a model and how many one machine has: l4, l4x2, a100-80gbx8. TPUs are a "
            "generation and its chips, tpu-v6e-8, or its topology where Google's own names "
            "count cores: tpu-v5p-2x2x2. With :spot at its end any of them is on Spot VMs, "
            "which are cheaper and may be taken away: l4:spot. Other spellings are understood "
            "(v6e-8, gpu-l4, trillium), and tpu:8 or gpu:4 is the one type with that many "
            "that the cluster has. What the project calls one, in "
            "`[tool.kinetic.accelerators]`, is a name of it, too."
            "\n\n"
            "Where a cluster is configured, those that it has are marked, with what is free. With "
            "--live that cluster's node pools are listed instead: nodes, chips that are free, how "
            "far the autoscaler may go, how many runs wait for them, and why a node could not be "
            "added lately."
        ),
        examples=(
            "kinetic accelerators",
            "kinetic accelerators v6e --hosts 1",
            "kinetic accelerators --vendor gpu --memory 80 --spot",
            "kinetic accelerators --live",
            "kinetic accelerators --live --json | jq '.[].node_pools'",
        ),
    ),
    "pool": Command(
        where="cluster:pool_app",
        group=CLUSTER,
        help="The Prefect work pool that runs on GKE go to.",
    ),
    "build-image": Command(
        where="build_image:build_image",
        group=CLUSTER,
        help=(
            "Make base images in a repository of Artifact Registry or on Docker Hub."
            "\n\n"
            "Without --repo it asks. Afterwards set KINETIC_BASE_IMAGE_REPO to the repository."
        ),
        examples=(
            "kinetic build-image",
            "kinetic build-image --repo my-name/kinetic --category cpu --yes",
            "kinetic build-image --repo my-name/kinetic --dry-run",
        ),
    ),
    "images": Command(
        where="image_list:images_app",
        group=CLUSTER,
        help="Images and layers that a cluster's image repository keeps, and what uses them.",
    ),
    "cache": Command(
        where="cache:cache_app",
        group=CLUSTER,
        help="Compiled programs that runs have kept for later runs.",
    ),
    "check-image": Command(
        where="images:check_image",
        group=CLUSTER,
        help=(
            "Look at an image, without pulling it, and say whether it can run this Python's calls."
        ),
        examples=(
            "kinetic check-image docker.io/my-name/image:v1",
            "kinetic check-image docker.io/my-name/image:v1 --accelerator l4",
        ),
    ),
    "server": Command(
        where="server:server_app",
        group=PREFECT,
        help="The background Prefect server of this machine.",
    ),
    "ui": Command(
        where="server:ui",
        group=PREFECT,
        help=(
            "Open the Prefect UI; the background server's without typing its password."
            "\n\n"
            "With PREFECT_API_URL set it is that API's, else the background server's, which is "
            "started if need be."
        ),
        examples=("kinetic ui", "kinetic ui 9229eced", "kinetic ui --no-browser"),
    ),
    "prefect": Command(
        where="prefect_commands:prefect",
        group=PREFECT,
        help=(
            "Run a command of Prefect's own with the address and the password of the API in use."
            "\n\n"
            "Without PREFECT_API_URL that is the background server, which is started if need be."
        ),
        examples=(
            "kinetic prefect flow-run ls",
            "kinetic prefect work-pool inspect kinetic-local",
        ),
    ),
    "profile": Command(
        where="profile:profile_app",
        group=ABOUT,
        help="Clusters saved under a name, and which of them is used.",
    ),
    "doctor": Command(
        where="doctor:doctor",
        group=ABOUT,
        help=(
            "Look at everything that a run depends on, and say what is wrong and what mends it."
            "\n\n"
            "Everything is asked at once, in less than ten seconds. What cannot be asked, for want "
            "of a right or of an answer, is unknown and not wrong. Nothing is changed without "
            "--fix. Exits with 1 when something is wrong."
        ),
        examples=(
            "kinetic doctor",
            "kinetic doctor --fix",
            "kinetic doctor --probe",
            "kinetic doctor --json | jq '.findings[] | select(.level == \"wrong\")'",
        ),
    ),
    "config": Command(
        where="config:config",
        group=ABOUT,
        help="Print every setting in force, and where its value came from.",
        examples=("kinetic config", "kinetic config --json"),
    ),
    "completion": Command(
        where="completion:completion",
        group=ABOUT,
        help="Print the script by which a shell completes this command.",
        examples=(
            'eval "$(kinetic completion bash)"',
            "kinetic completion zsh > ~/.zfunc/_kinetic",
            "kinetic completion fish | source",
        ),
    ),
    "help": Command(
        where="completion:help_",
        group=ABOUT,
        help="Show the help of a command, or this overview.",
        examples=("kinetic help", "kinetic help runs ls"),
    ),
}

app = App(
    name="kinetic",
    help="Run Python functions on cloud accelerators as Prefect flow runs.",
    help_epilogue="`kinetic COMMAND --help` tells more of each, with examples.",
    # To read Markdown takes a tenth of a second; the overview has none.
    help_format="plaintext",
    help_formatter=HelpPanels(),
    version=str(VERSION),
    version_flags=["--version"],
)

app["--help"].group = ABOUT
app["--version"].group = ABOUT

for _name, _command in COMMANDS.items():
    # A word for several commands is an application of its own, which says this of itself.
    _help = (
        {"help_format": "markdown", "help_epilogue": examples(*_command.examples)}
        if _command.examples
        else {}
    )
    app.command(
        f"kinetic_flows.cli.{_command.where}",
        name=_name,
        help=_command.help,
        group=_command.group,
        **_help,
        # Prefect's command has help of its own.
        **({"help_flags": ()} if _name == "prefect" else {}),
    )
