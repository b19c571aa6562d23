"""The network of the chaos suite, on real sockets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from workers.chaos.proxy import LATENCY_SECONDS, Proxy, Weather

MESSAGE = bytes(range(256)) * 20


@asynccontextmanager
async def echo() -> AsyncIterator[tuple[Proxy, list[bytes]]]:
    """A server that echoes behind a proxy, and what it has received."""
    received: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                received.append(data)
                writer.write(data)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with Proxy(server.sockets[0].getsockname()[1]) as proxy:
        yield proxy, received
    server.close()


async def said(proxy: Proxy, within: float = 2.0) -> bytes | None:
    """What comes back over a new connection; None for silence."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        return await exchanged(reader, writer, within)
    finally:
        writer.close()


async def exchanged(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, within: float = 2.0) -> bytes | None:
    writer.write(MESSAGE)
    try:
        async with asyncio.timeout(within):
            return await reader.readexactly(len(MESSAGE))
    except TimeoutError:
        return None


@pytest.mark.parametrize("weather", [Weather.FINE, Weather.LATENCY, Weather.SLOW, Weather.SLICED])
async def test_nothing_is_lost_or_changed_however_slow_it_is(weather: Weather) -> None:
    async with echo() as (proxy, _):
        proxy.change(weather)
        assert await said(proxy) == MESSAGE


async def test_latency_is_felt() -> None:
    async with echo() as (proxy, _):
        proxy.change(Weather.LATENCY)
        started = asyncio.get_running_loop().time()
        await said(proxy)
        assert asyncio.get_running_loop().time() - started >= 2 * LATENCY_SECONDS


async def test_a_half_open_connection_stays_so_after_the_network_has_healed() -> None:
    async with echo() as (proxy, received):
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        assert await exchanged(reader, writer) == MESSAGE
        before = sum(map(len, received))
        proxy.change(Weather.HALF_OPEN)
        proxy.change(Weather.FINE)
        assert await exchanged(reader, writer, within=0.2) is None
        assert sum(map(len, received)) == before
        assert await said(proxy) == MESSAGE
        writer.close()


async def test_one_way_means_that_the_far_side_hears_and_is_not_heard() -> None:
    async with echo() as (proxy, received):
        proxy.change(Weather.ONE_WAY)
        assert await said(proxy, within=0.2) is None
        assert b"".join(received) == MESSAGE


async def test_a_reset_breaks_what_is_open_and_nothing_else() -> None:
    async with echo() as (proxy, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        assert await exchanged(reader, writer) == MESSAGE
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            await reader.read()
        assert await said(proxy) == MESSAGE
        writer.close()


async def test_a_server_that_is_away_ends_the_connection() -> None:
    async with Proxy(1) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        assert await reader.read() == b""
        writer.close()
