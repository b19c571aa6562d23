"""The ways in: Redis stream, AMQP, Celery task; one intake that batches them."""
