"""`/chatkit-workers.js`, and the stand-in that tests it, fit the types that OpenAI publishes for its element."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.browser.npm import npm_packages

HERE = Path(__file__).parent
MODULE = HERE.parent.parent / "workers" / "gateway" / "chatkit-workers.js"
STAND_IN = HERE / "stand_in.js"
PACKAGES = ("typescript@~7.0", "@openai/chatkit@~1.9")
OPTIONS = {
    "allowJs": True,
    "checkJs": True,
    "noEmit": True,
    "strict": True,
    "target": "es2022",
    "module": "es2022",
    "moduleResolution": "bundler",
    "lib": ["es2023", "dom", "dom.iterable", "dom.asynciterable"],
    "types": [],
}


@pytest.fixture(scope="module")
def packages(pytestconfig: pytest.Config) -> Path:
    """A folder with the compiler and the types, kept from run to run."""
    return npm_packages(pytestconfig, "page-module-types", PACKAGES)


def tsc(packages: Path, sources: dict[str, str]) -> str:
    """What the compiler says of some files; nothing when they are right."""
    folder = packages / "sources"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, text in sources.items():
        (folder / name).write_text(text)
    (folder / "tsconfig.json").write_text(json.dumps({"compilerOptions": OPTIONS, "include": ["*.js"]}))
    command = [str(packages / "node_modules" / ".bin" / "tsc"), "--project", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout


def test_the_module_and_the_stand_in_fit_the_published_types(packages: Path) -> None:
    assert tsc(packages, {"module.js": MODULE.read_text(), "stand_in.js": STAND_IN.read_text()}) == ""


@pytest.mark.parametrize(
    ("source", "right", "wrong"),
    [
        (MODULE, "this.element.fetchUpdates()", "this.element.refetch()"),
        (MODULE, "turns.resume(event.detail.threadId)", "turns.resume(event.detail.thread)"),
        (MODULE, "domainKey,\n      fetch", "fetch"),
        (STAND_IN, "async fetchUpdates()", "async refetch()"),
        (STAND_IN, '"chatkit.thread.change", { threadId }', '"chatkit.thread.change", { thread: threadId }'),
    ],
)
def test_what_does_not_fit_the_published_types_is_noticed(packages: Path, source: Path, right: str, wrong: str) -> None:
    text = source.read_text()
    assert text.count(right) == 1
    assert "error TS" in tsc(packages, {"changed.js": text.replace(right, wrong)})
