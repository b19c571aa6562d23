"""Who calls: a user with a client secret, or a service with a service key."""

import hmac
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from schemas.records import EventStatus
from workers.gateway.ports import GatewayRuntime
from workers.gateway.problem import not_found, unauthorized
from workers.lanes.records import Owner
from workers.limits.places import in_line
from workers.sessions.tokens import Identity, TokenCode


@dataclass(frozen=True, slots=True)
class Service:
    """A caller with a service key, trusted to speak for any user."""


Caller = Identity | Service


def runtime_of(request: Request) -> GatewayRuntime:
    """The runtime of the app."""
    runtime: GatewayRuntime = request.app.state.runtime
    return runtime


Runtime = Annotated[GatewayRuntime, Depends(runtime_of)]


def service(request: Request, runtime: Runtime) -> Service:
    """Only a service key is taken."""
    if not _is_service_key(_bearer(request), runtime):
        raise unauthorized(TokenCode.INVALID, "a service key is needed")
    return Service()


def identity(request: Request, runtime: Runtime) -> Identity:
    """Only a client secret is taken."""
    return runtime.verifier.verify(_bearer(request))


def caller(request: Request, runtime: Runtime) -> Caller:
    """Either is taken."""
    token = _bearer(request)
    return Service() if _is_service_key(token, runtime) else runtime.verifier.verify(token)


AnyService = Annotated[Service, Depends(service)]
User = Annotated[Identity, Depends(identity)]
AnyCaller = Annotated[Caller, Depends(caller)]


def owner_of(identity: Identity) -> Owner:
    """The user of a client secret."""
    return Owner(identity.tenant, identity.user)


def check_owner(caller: Caller, owner: Owner) -> None:
    """An event belongs to the user that sent it; others are told that there is none."""
    if isinstance(caller, Identity) and owner_of(caller) != owner:
        raise not_found("event")


def may_listen(caller: Caller, runtime: GatewayRuntime) -> bool:
    """Whether an open stream of this caller goes on."""
    return isinstance(caller, Service) or not runtime.verifier.has_ended(caller.session_id)


async def owned_status(event_id: str, caller: Caller, runtime: GatewayRuntime) -> EventStatus:
    """The state of an event that the caller may see."""
    found = await runtime.lanes.status(event_id)
    if found is None:
        raise not_found("event")
    status, owner = found
    check_owner(caller, owner)
    return await in_line(status, runtime.limiter)


def _bearer(request: Request) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise unauthorized(TokenCode.INVALID, "the header Authorization: Bearer … is missing")
    return token.strip()


def _is_service_key(token: str, runtime: GatewayRuntime) -> bool:
    # every key is compared, in constant time, so that the time tells nothing about any of them
    given = token.encode()
    matches = [hmac.compare_digest(given, key.encode()) for key in runtime.settings.service_keys]
    return any(matches)
