"""The client for upstream services: `Publisher(url).publish(event)`. Light: schemas and redis or kombu, no Celery."""

from workers.publisher.client import Publisher

__all__ = ["Publisher"]
