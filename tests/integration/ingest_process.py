"""Starting the ways in as processes of their own, and ending them."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def ingest_process(role: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A process that is ready; killed at the end, if the test has not done so."""
    command = [sys.executable, "-m", "tests.integration.ingest_stack", role, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "ready"
        yield process
    finally:
        process.kill()
        process.wait(10)
        if process.stdout is not None:
            process.stdout.close()
