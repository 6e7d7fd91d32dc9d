"""Sums that the server learns, of vectors that it does not: Bonawitz et al. 2017 (arXiv 1611.04482), section 6.

A party adds to its vector, in fixed point and modulo 2^64, a mask of its own, and for each other party a mask that this
one takes off again. Its two secrets, the seed of its own mask and the key of the shared ones, lie with the others in
Shamir's shares: of who has sent its vector they give the seed, of who has not the key, never both of one party. So the
sum of those who have sent is all that can be unmasked, as long as fewer than `threshold` parties collude with the
server. It is for a server that follows the protocol and is curious; one that lies about who has sent what is not
resisted (section 6.2 of the paper has signatures for that).

Keys are X25519, masks AES-256 in counter mode, shares are sealed by AES-GCM (all of them `cryptography`'s) and made by
Flower's Shamir. Keys are new for each sum, and come from the operating system: no figure depends on them.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedloom.errors import BadInput, FedloomError

SCALE = 2.0**24  # a number is kept to 6e-8
LARGEST = 2.0**31  # of what is added up, so that the sum of 256 fits
PUBLIC_BYTES = 64  # the public keys of channels and of masks
SEALED_BYTES = 132  # a nonce, two shares of 52 bytes, and the seal
REVEALED_BYTES = 52

Words = NDArray[np.uint64]


def check_installed() -> None:
    """Raises BadInput where what makes keys and shares is not installed."""
    for package in ("cryptography", "flwr"):
        if find_spec(package) is None:
            raise BadInput(f"secure sums need {package}, which is not installed: pip install 'fedloom[flower]'")


def to_fixed(vector: NDArray[np.floating[Any]]) -> Words:
    """Numbers (P,) in fixed point, modulo 2^64. Raises BadInput for what is not finite, or too large."""
    largest = float(np.abs(vector).max(initial=0.0))
    if not largest < LARGEST:  # NaN is not either
        raise BadInput(f"a value of a secure sum is {largest:g}, allowed: less than {LARGEST:g}")
    return np.rint(np.asarray(vector, dtype=np.float64) * SCALE).astype(np.int64).view(np.uint64)


def from_fixed(words: Words) -> NDArray[np.float64]:
    """The numbers (P,) again."""
    return words.view(np.int64) / SCALE


def threshold_of(parties: int) -> int:
    """How many parties must be there to the end: more than half.

    Raises:
        BadInput: fewer than two parties.
    """
    if parties < 2:
        raise BadInput(f"a secure sum of {parties} party says what that party has; at least 2 are needed")
    return parties // 2 + 1


class Party:
    """One of those whose vectors are added up, in one sum."""

    def __init__(self, name: str) -> None:
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

        self.name = name
        self._channel, self._mask = X25519PrivateKey.generate(), X25519PrivateKey.generate()
        self._seed = secrets.token_bytes(32)
        self._publics: dict[str, bytes] = {}
        self._held: dict[str, bytes] = {}  # party -> the shares of its key and its seed that lie here
        self._revealed = False

    @property
    def public(self) -> bytes:
        """The keys that all others are to have, `PUBLIC_BYTES` long."""
        return b"".join(key.public_key().public_bytes_raw() for key in (self._channel, self._mask))

    @property
    def threshold(self) -> int:
        """How many of the parties of this sum must be there to the end."""
        return threshold_of(len(self._publics))

    def shares(self, publics: Mapping[str, bytes], threshold: int) -> dict[str, bytes]:
        """Sealed shares of the two secrets for each other party; publics: of all parties, one's own among them.

        Raises:
            BadInput: a threshold by which one party alone, or less than half, could unmask; own key changed.
        """
        from flwr.common.secure_aggregation.crypto.shamir import create_shares

        if publics.get(self.name) != self.public or not threshold_of(len(publics)) <= threshold <= len(publics):
            raise BadInput(f"a secure sum of {len(publics)} parties with threshold {threshold} is refused")
        self._publics = dict(publics)
        keys = create_shares(self._mask.private_bytes_raw(), threshold, len(publics))
        seeds = create_shares(self._seed, threshold, len(publics))
        pairs = {name: key + seed for name, key, seed in zip(sorted(publics), keys, seeds)}
        self._held = {self.name: pairs.pop(self.name)}
        return {name: self._seal(name, pair) for name, pair in pairs.items()}

    def masked(self, vector: Words, sealed: Mapping[str, bytes]) -> Words:
        """The vector (P,) under its masks; sealed: shares from the parties that are still there.

        Raises:
            FedloomError: shares that cannot be opened.
        """
        self._held |= {name: self._open(name, data) for name, data in sealed.items() if name != self.name}
        if len(self._held) < self.threshold:
            raise FedloomError(f"a secure sum has {len(self._held)} of {len(self._publics)} parties left: too few")
        found = vector + stream(self._seed, len(vector))
        for name in self._held:
            if name != self.name:
                add_pair(found, self._agreed(name), self.name, name)
        return found

    def reveal(self, survivors: Collection[str]) -> dict[str, bytes]:
        """A share a party: of the seed of who has sent its vector, of the key of who has not.

        Raises:
            BadInput: it has been asked before, or too few have sent.
        """
        if self._revealed or len({*survivors} & self._held.keys()) < self.threshold:
            raise BadInput(f"{self.name} reveals shares once, and of {self.threshold} senders or more")
        self._revealed = True
        half = REVEALED_BYTES
        return {name: pair[half:] if name in survivors else pair[:half] for name, pair in self._held.items()}

    def _agreed(self, name: str) -> bytes:
        return agreed(self._mask, self._publics[name][32:])

    def _channel_to(self, name: str) -> Any:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        return AESGCM(agreed(self._channel, self._publics[name][:32]))

    def _seal(self, name: str, pair: bytes) -> bytes:
        nonce = secrets.token_bytes(12)
        sealed: bytes = self._channel_to(name).encrypt(nonce, pair, f"{self.name}>{name}".encode())
        return nonce + sealed

    def _open(self, name: str, sealed: bytes) -> bytes:
        from cryptography.exceptions import InvalidTag

        try:
            pair: bytes = self._channel_to(name).decrypt(sealed[:12], sealed[12:], f"{name}>{self.name}".encode())
        except (InvalidTag, KeyError, ValueError) as error:
            raise FedloomError(f"shares from {name!r} for {self.name!r} cannot be opened") from error
        return pair


def unmasked(
    masked: Mapping[str, Words],
    revealed: Mapping[str, Mapping[str, bytes]],
    publics: Mapping[str, bytes],
    threshold: int,
) -> Words:
    """The sum (P,) of the vectors of those who have sent one.

    Args:
        masked: party -> what it has sent (P,).
        revealed: party -> what `Party.reveal` gave.
        publics: the keys of all parties who gave shares, those who then were lost among them.
        threshold: as for `Party.shares`.

    Raises:
        FedloomError: too few have revealed their shares, or they do not fit.
    """
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    found: Words = np.array(list(masked.values()), dtype=np.uint64).sum(0)
    for name in sorted(publics):
        secret = _put_together(name, revealed, threshold)
        if name in masked:
            found -= stream(secret, len(found))
            continue
        key = X25519PrivateKey.from_private_bytes(secret)
        if key.public_key().public_bytes_raw() != publics[name][32:]:
            raise FedloomError(f"shares of the key of {name!r} do not make its key")
        for survivor in masked:  # which have that party's mask on, as nobody takes it off
            add_pair(found, agreed(key, publics[survivor][32:]), name, survivor)
    return found


def _put_together(name: str, revealed: Mapping[str, Mapping[str, bytes]], threshold: int) -> bytes:
    from flwr.common.secure_aggregation.crypto.shamir import combine_shares

    shares = [given[name] for _, given in sorted(revealed.items()) if name in given][:threshold]
    if len(shares) < threshold:
        raise FedloomError(f"a secure sum needs {threshold} shares of {name!r}, and has {len(shares)}")
    try:
        secret: bytes = combine_shares(shares)
    except ValueError as error:
        raise FedloomError(f"shares of {name!r} do not fit together") from error
    return secret


def agreed(private: Any, public: bytes) -> bytes:
    """32 bytes that the two owners of these keys alone know."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    shared = private.exchange(X25519PublicKey.from_public_bytes(public))
    return HKDF(SHA256(), 32, None, b"fedloom secure sum").derive(shared)


def stream(seed: bytes, size: int) -> Words:
    """`size` words that look random to who does not know the seed of 32 bytes, which serves once."""
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.algorithms import AES
    from cryptography.hazmat.primitives.ciphers.modes import CTR

    cipher = Cipher(AES(seed), CTR(bytes(16))).encryptor()
    return np.frombuffer(cipher.update(bytes(8 * size)), dtype="<u8").astype(np.uint64, copy=False)


def add_pair(vector: Words, key: bytes, owner: str, other: str) -> None:
    """Puts the mask that two parties share on the vector, in place: plus for the first by name, minus for the other."""
    mask = stream(key, len(vector))
    if owner < other:
        vector += mask
    else:
        vector -= mask
