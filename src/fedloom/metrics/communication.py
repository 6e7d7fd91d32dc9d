"""What a round costs by the papers' own formulas (FedMMKT, appendix E); the ledger holds what was really sent."""

from __future__ import annotations

from typing import NamedTuple

from fedloom.errors import BadInput, unknown

MB = 2**20  # bytes; the only reading that gives the printed figures
_WORD = 4  # bytes of a float32 or int32

METHODS = ("fedmmkt", "l-fedmmkt", "u-fedmmkt", "fedmd", "fed-et", "fedgems", "fedmekt", "creamfl")


class Bytes(NamedTuple):
    """Bytes of one round, summed over clients: up from them, down to them."""

    up: int
    down: int


def round_bytes(
    method: str,
    samples: int,
    image_clients: int,
    text_clients: int,
    classes: int,
    width: int,
    image_bytes: int = 12288,
    text_bytes: int = 240,
    kept: int | None = None,
    public: int | None = None,
) -> Bytes:
    """Bytes of one round without headers.

    Args:
        method: one of `METHODS`.
        samples: S, synthetic samples.
        image_clients: N_I.
        text_clients: N_T.
        classes: C.
        width: D.
        image_bytes: of a synthetic picture; 64 x 64 x 3 by default.
        text_bytes: of a caption; 240 reproduces the printed figures.
        kept: M, retained samples, for the FedMMKT methods: their answers then count M samples and a mask of S bits a
            client. None counts S and no mask, as the paper does.
        public: P, the public set that the methods other than FedMMKT's exchange their answers about; it is at the
            clients already. None: the synthetic samples take its place, are sent, and come back with labels and
            representations.

    Raises:
        BadInput: an unknown method, a negative number, or more samples kept than there are.
    """
    sizes = (samples, image_clients, text_clients, classes, width, image_bytes, text_bytes, kept or 0, public or 0)
    if min(sizes) < 0 or (kept or 0) > samples:
        raise BadInput(f"round_bytes: a number is negative, or kept = {kept} is more than samples = {samples}")
    n = image_clients + text_clients
    data = samples * (image_clients * image_bytes + text_clients * text_bytes)
    if method in ("fedmmkt", "l-fedmmkt", "u-fedmmkt"):
        return _fedmmkt_bytes(method, samples, n, classes, width, kept, data)
    answered = samples if public is None else public
    sent = data if public is None else 0
    if method in ("fedmd", "fed-et", "fedgems"):  # logits both ways; FedGEMS: at most so many up
        logits = n * answered * classes * _WORD
        return Bytes(logits, sent + logits)
    if method in ("fedmekt", "creamfl"):
        sets = 2 if method == "creamfl" else 1  # CreamFL: global image and text representations go down
        vectors, labels = n * answered * width * _WORD, n * samples * _WORD if public is None else 0
        return Bytes(vectors, sent + labels + sets * vectors)
    raise unknown("method", method, METHODS)


def _fedmmkt_bytes(
    method: str, samples: int, clients: int, classes: int, width: int, kept: int | None, data: int
) -> Bytes:
    """Those of FedMMKT's methods; `data` bytes of synthetic samples go down."""
    logits, vectors, words = (clients * samples * size * _WORD for size in (classes, width, 1))
    # M3: labels, and representations, of retained samples, with the mask that says which.
    told = samples if kept is None else kept
    mask = 0 if kept is None else clients * -(-samples // 8)
    labels, fused = clients * told * _WORD, clients * told * width * _WORD
    if method == "l-fedmmkt":  # aggregated logits do not go down, only labels
        return Bytes(logits, data + labels + mask)
    views = 2 if method == "u-fedmmkt" else 1  # representations, label, entropy up
    return Bytes(views * vectors + 2 * words, data + labels + fused + mask)
