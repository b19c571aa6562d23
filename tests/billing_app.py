"""A Celery app that is none of ours: a billing service that takes tasks from the queue `billing`."""

import os
import time
from typing import Any

from celery import Celery, Task

app = Celery("billing", set_as_current=False)
app.conf.update(
    broker_url=os.environ["BILLING_BROKER_URL"],
    result_backend=os.environ["BILLING_RESULT_URL"],
    result_serializer="json",
    task_default_queue="billing",
    broker_connection_retry_on_startup=True,
)


@app.task(name="billing.refund", bind=True)  # type: ignore[untyped-decorator]  # Celery has no types
def refund(self: Task, order: str, amount: int = 0) -> dict[str, Any]:
    """What it was told, and its id."""
    return {"order": order, "amount": amount, "id": self.request.id, "about": self.request.get("chatkit")}


@app.task(name="billing.text")  # type: ignore[untyped-decorator]  # same
def text(order: str) -> str:
    return f"refunded {order}"


@app.task(name="billing.fail")  # type: ignore[untyped-decorator]  # same
def fail(order: str) -> None:
    raise ValueError("s3cret of the billing service")


@app.task(name="billing.sleep")  # type: ignore[untyped-decorator]  # same
def sleep(order: str) -> str:
    time.sleep(5)
    return "slept"
