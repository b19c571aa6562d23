"""The web process of the usual way: a task for each message, and server-sent events from a channel."""

import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from redis.asyncio import Redis
from starlette.responses import JSONResponse, StreamingResponse

from schemas.events import event_id, thread_id_of
from workers import failpoints
from workers.chaos.usual.agent import message
from workers.chaos.usual.board import URL, channel_of, key_of
from workers.chaos.usual.worker import TASK, make_app
from workers.failpoints import FailPoint

KEEP_ALIVE_SECONDS = 5.0


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.celery = make_app()
    app.state.redis = Redis.from_url(os.environ[URL], socket_timeout=10, socket_connect_timeout=5)
    yield
    await app.state.redis.aclose()


web = FastAPI(lifespan=lifespan)


@web.get("/readyz")
async def ready() -> dict[str, bool]:
    return {"ready": bool(await web.state.redis.ping())}


@web.post("/v1/events")
async def publish(request: Request) -> JSONResponse:
    """A task for the message."""
    event = await request.json()
    params = event["data"]["params"]
    id_ = event_id(event["source"], event["id"])
    thread_id = params.get("thread_id") or thread_id_of(id_)
    await web.state.redis.hsetnx(key_of(id_), "accepted_at", time.time())
    await web.state.redis.hsetnx(key_of(id_), "state", "queued")
    text = params["input"]["content"][0]["text"]
    web.state.celery.send_task(TASK, kwargs={"event_id": id_, "thread_id": thread_id, "text": text}, task_id=id_)
    failpoints.hit(FailPoint.AFTER_ACCEPT, subject=id_)
    return JSONResponse({"id": id_, "thread_id": thread_id, "state": "queued", "duplicate": False}, 202)


@web.get("/v1/events/{id_}")
async def show(id_: str) -> dict[str, Any]:
    return {"id": id_, "state": (await _answer(id_))[b"state"].decode(), "last_frame_id": None}


@web.post("/v1/events/{id_}/cancel")
async def cancel(id_: str) -> JSONResponse:
    """The page is told at once; Celery keeps a task that has not begun from beginning."""
    found = await _answer(id_)
    if b"ended_at" in found:
        raise HTTPException(409)
    web.state.celery.control.revoke(id_)
    await web.state.redis.hset(key_of(id_), mapping={"state": "cancelled", "ended_at": time.time(), "text": ""})
    await web.state.redis.publish(channel_of(id_), json.dumps({"end": "cancelled"}))
    return JSONResponse({"id": id_}, 202)


@web.get("/v1/events/{id_}/stream")
async def follow(id_: str) -> StreamingResponse:
    """The deltas from now on; the finished answer for whoever comes after its end."""
    await _answer(id_)
    return StreamingResponse(_deltas(id_), media_type="text/event-stream")


async def _deltas(id_: str) -> AsyncIterator[str]:
    async with web.state.redis.pubsub(ignore_subscribe_messages=True) as channel:
        await channel.subscribe(channel_of(id_))
        found = await _answer(id_)
        if b"ended_at" in found:
            if found[b"text"]:
                item = message("answer", found[b"text"].decode())
                yield _event(json.dumps({"type": "thread.item.done", "item": item}))
            yield _end(found[b"state"].decode())
            return
        while True:
            told = await channel.get_message(timeout=KEEP_ALIVE_SECONDS)
            if told is None:
                yield ": keep-alive\n\n"
                continue
            said = json.loads(told["data"])
            if "end" in said:
                yield _end(said["end"])
                return
            yield _event(json.dumps(said["frame"]))


async def _answer(id_: str) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = await web.state.redis.hgetall(key_of(id_))
    if not found:
        raise HTTPException(404)
    return found


def _event(data: str) -> str:
    return f"data: {data}\n\n"


def _end(state: str) -> str:
    return f"event: end\ndata: {json.dumps({'state': state, 'reason': None})}\n\n"


def main(arguments: list[str]) -> int:
    """Serve on a port."""
    import uvicorn

    uvicorn.run(web, port=int(arguments[0]), log_level="warning")
    return 0
