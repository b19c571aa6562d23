"""What makes a broker prove who it is."""

import ssl
from typing import Any
from urllib.parse import urlsplit


def tls_options(broker_url: str) -> dict[str, Any] | bool:
    """kombu's `ssl` for a broker URL; False without TLS. kombu by itself takes any certificate, py-amqp any host name.

    Options in a `rediss://` URL, such as `?ssl_ca_certs=/etc/ssl/our-ca.pem`, count instead; without
    `ssl_cert_reqs=none` among them the certificate is checked as well.
    """
    parts = urlsplit(broker_url)
    if parts.scheme == "rediss":
        return {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True}
    if parts.scheme == "amqps":
        return {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": parts.hostname}
    return False
