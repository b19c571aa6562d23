"""Draws every panel of the dashboards from what a real Prometheus scraped of a real gateway under load.

    python -m tests.deploy.draw_panels deploy/grafana/panels.png

Not part of the tests: it takes two minutes, and wants `prometheus`, `redis-server` and Chromium.
"""

import asyncio
import html
import itertools
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml
from playwright.async_api import async_playwright

from tests.builders import create_event
from tests.deploy.reading import dashboards, documents
from tests.deployment import Deployment
from tests.eventually import eventually_sync
from tests.services import RedisServer, free_port
from workers.publisher import Publisher
from workers.testing.provider import FakeProvider
from workers.testing.provider_steps import Status, Step, Text

LOAD_SECONDS = 90
SCRAPE_SECONDS = 2
WINDOW = "20s"
WIDTH, HEIGHT, LEFT = 460, 150, 46
COLOURS = ["#2a6fdb", "#d9480f", "#2b8a3e", "#862e9c", "#c2255c", "#0b7285", "#5c940d", "#495057"]

Series = tuple[str, list[tuple[float, float]]]


def answer(_: object) -> Step:
    """Mostly an answer; now and then an error that passes, or one that does not."""
    drawn = random.random()
    return Status(500) if drawn < 0.08 else Status(400) if drawn < 0.11 else Text("word " * 40)


@contextmanager
def prometheus(gateway: str, folder: Path) -> Iterator[str]:
    """A Prometheus with our configuration, but for the gateway's address and the pace."""
    [config] = documents("prometheus/prometheus.yml")
    config["global"] |= {"scrape_interval": f"{SCRAPE_SECONDS}s"}
    config["rule_files"] = []
    [job] = config["scrape_configs"]
    del job["dns_sd_configs"]
    job["static_configs"] = [{"targets": [gateway.removeprefix("http://")]}]
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(config))
    port = free_port()
    options = [
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    process = subprocess.Popen(["prometheus", "--log.level=error", *options])
    try:
        address = f"http://127.0.0.1:{port}"
        eventually_sync(lambda: ready(address), within=60)
        yield address
    finally:
        process.terminate()
        process.wait(20)


def ready(address: str) -> bool:
    try:
        return httpx.get(f"{address}/-/ready").is_success
    except httpx.TransportError:
        return False


def load(deployment: Deployment) -> None:
    """Conversations in waves, for `LOAD_SECONDS`."""
    end = time.monotonic() + LOAD_SECONDS
    with Publisher(deployment.broker_url) as publisher:
        for number in itertools.count():
            publisher.publish(create_event(f"question {number}"))
            left = end - time.monotonic()
            if left <= 0:
                return
            time.sleep(0.1 if int(left / 15) % 2 else 0.6)


def ask(address: str, panel: dict[str, Any], start: float, end: float) -> list[Series]:
    """What a panel shows. Raises when Prometheus refuses an expression."""
    found: list[Series] = []
    for target in panel["targets"]:
        query = target["expr"].replace("$__rate_interval", WINDOW).replace("$__range", f"{LOAD_SECONDS}s")
        given = {"query": query, "start": start, "end": end, "step": SCRAPE_SECONDS}
        reply = httpx.get(f"{address}/api/v1/query_range", params=given, timeout=30)
        reply.raise_for_status()
        for series in reply.json()["data"]["result"]:
            name = legend(target["legendFormat"], series["metric"])
            found.append((name, [(at, float(value)) for at, value in series["values"] if value != "NaN"]))
    return found


def legend(template: str, labels: dict[str, str]) -> str:
    for label, value in labels.items():
        template = template.replace("{{" + label + "}}", value)
    return template


def drawn(panel: dict[str, Any], series: list[Series], start: float, end: float) -> str:
    """A panel as SVG: lines, the largest value, a legend."""
    top = max((value for _, points in series for _, value in points), default=0) or 1
    lines, legend = [], []
    for (name, points), colour in zip(series, itertools.cycle(COLOURS)):
        path = " ".join(
            f"{LEFT + (at - start) / (end - start) * (WIDTH - LEFT):.1f},{HEIGHT - value / top * HEIGHT:.1f}"
            for at, value in points
        )
        lines.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        legend.append(f'<span style="color:{colour}">■ {html.escape(name)}</span>')
    unit = panel["fieldConfig"]["defaults"]["unit"]
    axis = f'<text x="0" y="10">{top:.3g}</text><text x="0" y="{HEIGHT}">0</text><text x="0" y="24">{unit}</text>'
    frame = f'<rect x="{LEFT}" y="0" width="{WIDTH - LEFT}" height="{HEIGHT}" fill="none" stroke="#ddd"/>'
    svg = f'<svg width="{WIDTH}" height="{HEIGHT + 4}">{frame}{axis}{"".join(lines)}</svg>'
    return f"<figure><b>{html.escape(panel['title'])}</b>{svg}<div>{' '.join(legend) or 'no data'}</div></figure>"


async def picture(page: str, path: Path) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        shown = await browser.new_page(viewport={"width": 980, "height": 400})
        await shown.set_content(page)
        await shown.screenshot(path=path, full_page=True)
        await browser.close()


def main(path: Path) -> None:
    """Load, scrape, ask, draw; a panel without data is named on stderr."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="panels-")))
        redis = RedisServer(folder).start()
        stack.callback(redis.stop)
        provider = stack.enter_context(FakeProvider(answer, delay_seconds=0.02))
        deployment = stack.enter_context(
            Deployment(
                redis.next_database_url(),
                f"sqlite+aiosqlite:///{folder / 'chatkit.db'}",
                **provider.environment,
                CHATKIT_LIMITS='{"models": {"gpt-4.1": {"rpm": 200, "tpm": 200000, "concurrency": 4}}}',
            )
        )
        deployment.worker()
        address = stack.enter_context(prometheus(deployment.gateway(), folder))
        start = time.time()
        load(deployment)
        end = time.time()
        style = (
            "body{font:13px sans-serif}figure{display:inline-block;margin:8px}svg{display:block}text{font-size:10px}"
        )
        page = [f"<style>{style}</style>"]
        for _, board in dashboards():
            page.append(f"<h2>{html.escape(board['title'])}</h2>")
            for panel in board["panels"]:
                series = ask(address, panel, start, end)
                if not any(points for _, points in series):
                    print(f"no data: {board['title']}: {panel['title']}", file=sys.stderr)
                page.append(drawn(panel, series, start, end))
        asyncio.run(picture("".join(page), path))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
