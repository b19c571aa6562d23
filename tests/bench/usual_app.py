"""The usual way to keep to a provider's limits with Celery: `rate_limit` per worker, `autoretry_for` with backoff."""

import os
from typing import Any

import openai
from celery import Celery

RATE = os.environ.get("BENCH_RATE", "600/m")

app = Celery("usual", broker=os.environ.get("BENCH_BROKER_URL", "redis://127.0.0.1:6379/0"), set_as_current=False)
app.conf.update(task_ignore_result=True, broker_connection_retry_on_startup=True)
client = openai.OpenAI(
    base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:9/v1"), api_key="of-no-value", max_retries=0
)


@app.task(  # type: ignore[untyped-decorator]  # Celery has no types
    name="answer",
    rate_limit=RATE,
    autoretry_for=(openai.APIError,),
    retry_backoff=True,
    retry_jitter=True,
    max_retries=None,
)
def answer(text: str) -> None:
    """One streamed answer."""
    stream: Any = client.responses.create(model="gpt-4.1", input=text, stream=True)
    for _ in stream:
        pass
