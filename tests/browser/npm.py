"""Packages of npm that tests use, and nothing else does: installed when a test asks for them."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.conftest import leave_out

INSTALL_SECONDS = 100


def npm_packages(pytestconfig: pytest.Config, name: str, packages: Sequence[str]) -> Path:
    """A folder with these packages in its `node_modules`, kept from run to run under `name`."""
    npm, folder = shutil.which("npm"), pytestconfig.cache.mkdir(name)
    if npm is None:
        leave_out("npm")
    installed = folder / "installed"
    if not installed.exists() or installed.read_text() != json.dumps(packages):
        command = [npm, "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--ignore-scripts", *packages]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=INSTALL_SECONDS)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            leave_out("the registry of npm")
        installed.write_text(json.dumps(packages))
    return folder
