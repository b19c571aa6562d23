"""What the web process and the workers of the usual way share: messages of a thread, states of answers, a channel."""

import json
import os
import time
from dataclasses import dataclass
from typing import Any

from redis import Redis

URL = "USUAL_URL"
KEEP_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Board:
    """Synchronous, as the task is."""

    redis: Any

    @classmethod
    def open(cls) -> "Board":
        return cls(Redis.from_url(os.environ[URL], socket_timeout=5, socket_connect_timeout=5))

    def began(self, event_id: str) -> None:
        self.redis.hsetnx(key_of(event_id), "started_at", time.time())
        self.redis.hset(key_of(event_id), "state", "running")

    def messages(self, thread_id: str) -> list[dict[str, str]]:
        """The conversation so far."""
        return [json.loads(line) for line in self.redis.lrange(thread_of(thread_id), 0, -1)]

    def say(self, thread_id: str, role: str, text: str) -> None:
        """Append to the conversation."""
        self.redis.rpush(thread_of(thread_id), json.dumps({"role": role, "content": text}))

    def show(self, event_id: str, frame: dict[str, Any]) -> None:
        """Tell whoever listens now."""
        self.redis.publish(channel_of(event_id), json.dumps({"frame": frame}))

    def end(self, event_id: str, state: str, text: str = "") -> None:
        """The answer has ended; its text is kept for those who come late."""
        self.redis.hset(key_of(event_id), mapping={"state": state, "ended_at": time.time(), "text": text})
        self.redis.expire(key_of(event_id), KEEP_SECONDS)
        self.redis.publish(channel_of(event_id), json.dumps({"end": state}))


def key_of(event_id: str) -> str:
    return f"answer:{event_id}"


def thread_of(thread_id: str) -> str:
    return f"thread:{thread_id}"


def channel_of(event_id: str) -> str:
    return f"deltas:{event_id}"
