"""A small directory of services with sample records, until a real one is connected."""

from collections.abc import Mapping, Sequence
from importlib import import_module

from workers.agents.ports import ServiceDirectory, ServiceRecord
from workers.errors import SettingsError

SAMPLE_RECORDS: Mapping[tuple[str, str], Mapping[str, str]] = {
    ("order", "1042"): {"status": "shipped", "items": "2", "arrives": "Thursday"},
    ("order", "1043"): {"status": "being packed", "items": "1", "arrives": "next week"},
    ("invoice", "77"): {"status": "paid", "amount": "49.00 EUR", "order": "1042"},
    ("account", "main"): {"plan": "team", "seats": "12", "renews": "1 March"},
    ("service", "chat"): {"status": "operational", "region": "eu-west"},
}


def load_services(name: str | None) -> ServiceDirectory:
    """The services of a deployment.

    Args:
        name: `module:name` of a class or function that makes them, called without arguments; None: the samples.

    Raises:
        SettingsError: there is no such thing.
    """
    if name is None:
        return SampleServices()
    module, _, factory = name.partition(":")
    try:
        services: ServiceDirectory = getattr(import_module(module), factory)()
    except (ImportError, AttributeError) as error:
        raise SettingsError(f"CHATKIT_SERVICES: {name} cannot be loaded ({error}): is it on the Python path?") from None
    return services


class SampleServices:
    """Knows `SAMPLE_RECORDS`, the same for every user. `account` and `service` need no key."""

    def __init__(self, records: Mapping[tuple[str, str], Mapping[str, str]] = SAMPLE_RECORDS) -> None:
        self._records = records

    async def look_up(self, kind: str, key: str, *, tenant: str, user: str) -> ServiceRecord | None:
        facts = self._records.get((kind, key.lstrip("#")))
        if facts is None:
            return self._only_one(kind)
        return ServiceRecord(kind, key, dict(facts))

    def kinds(self) -> Sequence[str]:
        return sorted({kind for kind, _ in self._records})

    def _only_one(self, kind: str) -> ServiceRecord | None:
        """The record of a kind that has a single one, whatever the caller called it."""
        if kind not in ("account", "service"):
            return None
        own = [(key, facts) for (known, key), facts in self._records.items() if known == kind]
        return ServiceRecord(kind, own[0][0], dict(own[0][1])) if len(own) == 1 else None
