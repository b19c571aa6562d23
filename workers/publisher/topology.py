"""Names and arguments of the AMQP entities of the plain way in; publisher and consumer declare the same.

    publisher --> exchange chatkit.events (topic) --"#"--> queue chatkit.events.plain --> workers (PlainEventsStep)
                                                              | delivered too often
                                                              v
                              exchange chatkit.events.dead (fanout) --> queue chatkit.events.dead (kept, shown)

The Celery queue `chatkit.events` (task messages of `chatkit.ingest`) must not be bound to the exchange of the same
name, or it would get plain JSON: Celery's queues hang on the default exchange.
"""

from kombu.entity import Exchange, Queue

EVENTS_EXCHANGE = Exchange("chatkit.events", type="topic", durable=True)  # type: ignore[no-untyped-call]  # kombu has no types
"""Takes any routing key. A topic, not a fanout, so that operators can bind queues of their own by event type."""

DEAD_EXCHANGE = Exchange("chatkit.events.dead", type="fanout", durable=True)  # type: ignore[no-untyped-call]  # kombu has no types

DELIVERY_LIMIT = 20
"""Deliveries without an acknowledgement (its worker died) before RabbitMQ gives a message up. RabbitMQ 3.10 has
no default, and one connection loss counts for every message that was prefetched, so the number is generous."""

PLAIN_QUEUE = Queue(  # type: ignore[no-untyped-call]  # kombu has no types
    "chatkit.events.plain",
    exchange=EVENTS_EXCHANGE,
    routing_key="#",
    durable=True,
    queue_arguments={
        "x-queue-type": "quorum",
        "x-single-active-consumer": True,  # publish order: one worker at a time drains it
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-dead-letter-exchange": DEAD_EXCHANGE.name,
    },
)

DEAD_QUEUE = Queue(  # type: ignore[no-untyped-call]  # kombu has no types
    "chatkit.events.dead", exchange=DEAD_EXCHANGE, durable=True, queue_arguments={"x-queue-type": "quorum"}
)

CONTENT_TYPE = "application/cloudevents+json"
