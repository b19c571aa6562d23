"""The Celery app: `celery -A workers.app worker`."""

import asyncio
import sys
from functools import partial
from typing import Any

from celery import Celery, signals

from workers import tasks
from workers.broker import queues, transport_options
from workers.errors import SettingsError
from workers.ingest.install import install as install_ingest
from workers.lanes.figures import Load
from workers.pool import current_load, current_loop, on_loop_start, on_loop_stop, shut_down
from workers.routing import QUEUE_INTERACTIVE
from workers.runtime import WorkerProcess
from workers.settings import Settings, load_settings
from workers.telemetry.otlp import end_tracing, init_tracing
from workers.telemetry.sentry import init_sentry
from workers.telemetry.worker import install as install_telemetry
from workers.tls import tls_options


def make_app(settings: Settings) -> Celery:
    """Build the app of a deployment."""
    app = Celery("chatkit-workers", set_as_current=False)
    app.conf.update(
        broker_url=settings.broker_url,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,  # 100 by default: a worker must outlive a long outage
        broker_channel_error_retry=True,  # a Redis that turns into a replica answers READONLY: connect again, don't die
        broker_heartbeat=4,  # 120 by default: a half-open connection would hide for minutes
        worker_consumer="workers.pool.consumer:PromptConsumer",
        broker_transport_options=transport_options(settings),
        broker_use_ssl=tls_options(settings.broker_url),
        accept_content=["json"],
        task_serializer="json",
        result_backend=None,  # the tracer's result calls would block the loop; outcomes are on the event's record
        task_ignore_result=True,
        task_queues=queues(settings),
        task_default_queue=QUEUE_INTERACTIVE,
        task_acks_late=False,  # turns are acked early, alarms recover them
        worker_pool="workers.pool:TaskPool",
        worker_autoscaler="workers.autoscale.slots:PoolAutoscaler",
        worker_concurrency=settings.concurrency,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=not settings.broker_url.startswith("amqp"),  # else a full worker hoards wake-ups
        worker_send_task_events=True,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,  # the lease, not the connection, owns a turn
    )
    app.events.dispatcher_cls = "workers.pool.dispatcher:BriefDispatcher"
    worker = WorkerProcess(settings, app, give_up=shut_down, load=lambda: Load(*current_load()))
    tasks.register(app, worker)
    install_ingest(app, loop_of=running_loop, admission_of=lambda: worker.runtime.admission)
    on_loop_start(worker.open)
    on_loop_stop(worker.close)
    install_telemetry(level=settings.log_level, start=partial(start_telemetry, settings), end=end_tracing)
    return app


def start_telemetry(settings: Settings) -> None:
    """What a worker tells of itself to others, where that is wanted."""
    init_sentry(role="worker", **settings.sentry_options)
    init_tracing(role="worker", **settings.tracing_options)


def running_loop() -> asyncio.AbstractEventLoop:
    """The pool's loop; a message can only come while it runs."""
    loop = current_loop()
    if loop is None:
        raise RuntimeError("the pool does not run")
    return loop


def app_of_settings() -> Celery:
    """The app; a wrong setting ends the process with its one line, since `celery -A` would show a traceback."""
    try:
        return make_app(load_settings())
    except SettingsError as error:
        sys.exit(str(error))


app = app_of_settings()


@signals.worker_ready.connect  # type: ignore[untyped-decorator]  # Celery has no types
def _say_ready(**_: Any) -> None:
    print("ready", file=sys.stderr, flush=True)  # noqa: T201  # what process supervisors and tests wait for
