"""The ways in: the Redis stream, plain JSON on AMQP, the Celery task; and the one intake that batches them."""
