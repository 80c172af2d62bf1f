"""Where compiled programs are kept, who has the key to them, and which of them go."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from runner_jobs import a_template

from kinetic_flows.cli.main import main
from kinetic_flows.core.accelerators import parse_accelerator
from kinetic_flows.core.artifact_store import StoreTrust
from kinetic_flows.core.image_registry import ResolvedImage
