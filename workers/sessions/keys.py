"""The keys that client secrets are signed with. The first signs, all verify, so that keys can be rotated."""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from workers.errors import SettingsError
from workers.settings import Settings

MIN_SECRET_BYTES = 32
"""RFC 7518 3.2: a key for HS256 is at least as long as its hash."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One key. The algorithm belongs to the key: a token cannot choose another for it."""

    kid: str | None
    algorithm: str
    private: bytes | Ed25519PrivateKey
    public: bytes | Ed25519PublicKey


class KeyRing:
    """All keys of a deployment, by key id. A shared secret has none."""

    def __init__(self, keys: Mapping[str | None, SigningKey]) -> None:
        """`keys` is not empty; its first one signs."""
        self._keys = dict(keys)
        self.signing = next(iter(self._keys.values()))

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Read CHATKIT_SIGNING_KEYS and CHATKIT_SECRET_KEY; with both, the former signs and the latter still verifies.

        Raises:
            SettingsError: neither is set, or one is wrong.
        """
        keys: dict[str | None, SigningKey] = {}
        if settings.signing_keys is not None:
            keys |= _ed25519_keys(settings.signing_keys.get_secret_value())
        if settings.secret_key is not None:
            keys[None] = shared_secret(settings.secret_key.get_secret_value())
        if not keys:
            raise SettingsError(
                "CHATKIT_SECRET_KEY: is not set; set it to at least 32 random characters,"
                " or CHATKIT_SIGNING_KEYS to Ed25519 keys"
            )
        return cls(keys)

    def find(self, kid: object) -> SigningKey | None:
        """The key of a token's header, None if there is no such key."""
        return self._keys.get(kid) if isinstance(kid, str | None) else None


def shared_secret(secret: str) -> SigningKey:
    """A key for HS256."""
    raw = secret.encode()
    if len(raw) < MIN_SECRET_BYTES:
        message = f"is {len(raw)} bytes long, at least {MIN_SECRET_BYTES} random ones are needed"
        raise SettingsError(f"CHATKIT_SECRET_KEY: {message}")
    return SigningKey(None, "HS256", raw, raw)


def _ed25519_keys(text: str) -> dict[str | None, SigningKey]:
    wanted = 'a JSON object {"<key id>": "<Ed25519 private key, PEM or base64>"} is accepted'
    try:
        entries = json.loads(text)
    except ValueError:
        raise SettingsError(f"CHATKIT_SIGNING_KEYS: is not JSON; {wanted}") from None
    if not (isinstance(entries, dict) and entries and all(isinstance(value, str) for value in entries.values())):
        raise SettingsError(f"CHATKIT_SIGNING_KEYS: holds no keys; {wanted}")
    return {kid: _ed25519_key(kid, value) for kid, value in entries.items()}


def _ed25519_key(kid: str, value: str) -> SigningKey:
    try:
        if "-----BEGIN" in value:
            private = load_pem_private_key(value.encode(), password=None)
        else:
            private = Ed25519PrivateKey.from_private_bytes(base64.b64decode(value, validate=True))
    except (ValueError, TypeError, binascii.Error):
        private = None
    if not isinstance(private, Ed25519PrivateKey):
        raise SettingsError(f"CHATKIT_SIGNING_KEYS: {kid!r} is no Ed25519 private key in PEM or base64")
    return SigningKey(kid, "EdDSA", private, private.public_key())
