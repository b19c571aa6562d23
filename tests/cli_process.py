"""Running `chatkit-workers` as a user does: a process of its own, with an environment of its own."""

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


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
    pipe = asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE
    process = await start(*arguments, env=env, stdin=pipe, cwd=cwd, module=module)
    try:
        async with asyncio.timeout(within):
            out, err = await process.communicate(None if stdin is None else stdin.encode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    finished = Finished(process.returncode or 0, out.decode(), err.decode())
    assert "Traceback" not in finished.out + finished.err
    return finished
