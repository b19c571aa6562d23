"""Where plain HTTP may go: to this machine alone."""

from ipaddress import ip_address
from urllib.parse import urlsplit

HTTPS_FORM = "an https:// address (http:// only for this machine: localhost, 127.0.0.1, [::1])"


def is_loopback(host: str) -> bool:
    """Whether a host is this machine. A name other than `localhost` is not looked up: it may lead anywhere."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


def is_safe(url: str) -> bool:
    """Whether a URL is https, or http to this machine."""
    parts = urlsplit(url)
    return bool(parts.hostname) and (
        parts.scheme == "https" or (parts.scheme == "http" and is_loopback(str(parts.hostname)))
    )


def is_plain_abroad(url: str) -> bool:
    """Whether a broker, state or database is spoken to in the clear over a network."""
    parts = urlsplit(url)
    secure = parts.scheme.startswith(("rediss", "amqps", "sqlite")) or "ssl" in parts.query
    return not secure and bool(parts.hostname) and not is_loopback(str(parts.hostname))
