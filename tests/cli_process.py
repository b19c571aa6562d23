"""Running `chatkit-workers` as a user does: a process of its own, with an environment of its own."""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.forked import Program
from workers.cli.main import run


@dataclass(frozen=True, slots=True)
class Finished:
    """What a command left: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def records(self) -> list[dict[str, Any]]:
        """The objects that `--json` printed."""
        return [json.loads(line) for line in self.lines]


def settings(**fields: object) -> dict[str, str]:
    """An environment with these settings and no others."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("CHATKIT_", "OPENAI_"))}
    return inherited | {f"CHATKIT_{name.upper()}": str(value) for name, value in fields.items()}


async def start(
    *arguments: str,
    env: Mapping[str, str],
    stdin: int = asyncio.subprocess.DEVNULL,
    cwd: Path | None = None,
    module: str = "workers.cli",
) -> asyncio.subprocess.Process:
    """Start a command; its output can be read while it runs."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        *arguments,
        env=dict(env),
        cwd=cwd,
        stdin=stdin,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def cli(
    *arguments: str,
    env: Mapping[str, str],
    stdin: str | None = None,
    within: float = 60,
    cwd: Path | None = None,
    module: str = "workers.cli",
) -> Finished:
    """Run a command to its end. No command may ever show a traceback."""
    if module == "workers.cli" and env.get("PYTHONPATH") == os.environ.get("PYTHONPATH"):
        finished = await _forked(arguments, env, stdin, within, cwd)
    else:  # what it imports is its own affair
        finished = await _fresh(arguments, env, stdin, within, cwd, module)
    assert "Traceback" not in finished.out + finished.err
    return finished


async def _fresh(
    arguments: tuple[str, ...], env: Mapping[str, str], stdin: str | None, within: float, cwd: Path | None, module: str
) -> Finished:
    pipe = asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE
    process = await start(*arguments, env=env, stdin=pipe, cwd=cwd, module=module)
    try:
        async with asyncio.timeout(within):
            out, err = await process.communicate(None if stdin is None else stdin.encode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Finished(process.returncode or 0, out.decode(), err.decode())


async def _forked(
    arguments: tuple[str, ...], env: Mapping[str, str], stdin: str | None, within: float, cwd: Path | None
) -> Finished:
    """Without the second that importing takes."""
    with tempfile.TemporaryDirectory(prefix="cli-") as folder:
        given, out, err = (Path(folder, name) for name in ("in", "out", "err"))
        given.write_text(stdin or "", encoding="utf-8")
        order = (str(given), str(out), str(cwd or Path.cwd()), *arguments)
        process = COMMAND.start(*order, environment=env, log=err)
        try:
            code = await asyncio.to_thread(process.wait, within)
        except subprocess.TimeoutExpired:
            process.kill()
            raise TimeoutError(f"{arguments} takes longer than {within} s: {err.read_text()}") from None
        return Finished(code, out.read_text(encoding="utf-8"), err.read_text(encoding="utf-8"))


def run_between(order: list[str]) -> int:
    """In the forked process: a command with its input and output in files.

    Args:
        order: the file that is stdin, the one that becomes stdout, the folder to work in, and the command line.
    """
    given, out, folder, *arguments = order
    os.dup2(os.open(given, os.O_RDONLY), 0)
    os.dup2(os.open(out, os.O_WRONLY | os.O_CREAT, 0o600), 1)
    os.chdir(folder)
    sys.argv[1:] = arguments
    try:
        return run(arguments)
    finally:
        sys.stdout.flush()


COMMAND = Program("tests.cli_process", "tests.cli_process:run_between")
