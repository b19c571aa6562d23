"""Where a call may go: the declared host, at an address that was looked at before it is connected to."""

import asyncio
import socket
import ssl
from functools import cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import httpx2

from workers.transport import is_loopback

Address = IPv4Address | IPv6Address

METADATA = frozenset(map(ip_address, ("fd00:ec2::254", "100.100.100.200", "192.0.0.192")))
"""What clouds tell machines about themselves at, keys included, beside the link-local addresses."""

NAT64 = ip_network("64:ff9b::/96")


class RefusedAddressError(httpx2.ConnectError):
    """The host's name leads to where no service is called."""


def is_refused(address: Address) -> bool:
    """Whether nothing may be called there, however its name reads: link-local, metadata, multicast, unspecified."""
    plain = _unwrapped(address)
    return plain in METADATA or plain.is_link_local or plain.is_multicast or plain.is_unspecified


class CheckedTransport(httpx2.AsyncBaseTransport):
    """Resolves the host itself, looks at what it gets, and connects to exactly that: a name that changes its mind in
    between leads nowhere. The certificate is checked against the name. One transport serves one host.

    Args:
        keep_alive: whether connections may be used again. One that has idled may be closed under a request, of which
            nobody then knows what became of it.
    """

    def __init__(self, *, keep_alive: bool = True, connections: int = 20) -> None:
        limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections if keep_alive else 0)
        self._inner = httpx2.AsyncHTTPTransport(verify=_authorities(), limits=limits)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        host = request.url.host
        if _literal(host) is not None:  # who writes the address down means it
            return await self._inner.handle_async_request(request)
        refused: httpx2.ConnectError | httpx2.ConnectTimeout | None = None
        for address in await _resolved(host, request):
            try:
                return await self._inner.handle_async_request(_directed(request, address))
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                refused = error
        raise refused or httpx2.ConnectError("the name has no address", request=request)

    async def aclose(self) -> None:
        await self._inner.aclose()


@cache
def _authorities() -> ssl.SSLContext:
    """Who vouches for services: the usual authorities, or those of `SSL_CERT_FILE`. To read them takes a while."""
    return httpx2.create_ssl_context()


async def _resolved(host: str, request: httpx2.Request) -> list[Address]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        raise httpx2.ConnectError("the name cannot be resolved", request=request) from None
    addresses = list(dict.fromkeys(ip_address(str(entry[4][0]).partition("%")[0]) for entry in found))
    for address in addresses:
        if is_refused(address) or (is_loopback(host) and not address.is_loopback):
            raise RefusedAddressError("the name leads to an address that is not called", request=request)
    return addresses


def _directed(request: httpx2.Request, address: Address) -> httpx2.Request:
    """The request to this address; the name stays in the `Host` header and in TLS."""
    return httpx2.Request(
        request.method,
        request.url.copy_with(host=str(address)),
        headers=request.headers,
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": request.url.host},
    )


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _unwrapped(address: Address) -> Address:
    """The IPv4 address that an IPv6 address stands for, where it does."""
    if isinstance(address, IPv4Address):
        return address
    if address in NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address
