"""What left each client, added up from the lines of `ledger.jsonl`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

DIRECTIONS = {"up": "leaves the client", "down": "arrives"}


@dataclass
class Flow:
    """All that crossed under one (client, direction, verb, message, field); shapes may differ."""

    client: str
    direction: str
    verb: str
    message: str
    name: str
    dtype: str
    counted: bool
    shapes: dict[str, int] = field(default_factory=dict)  # shape -> messages
    messages: int = 0
    bytes: int = 0

    @property
    def shape(self) -> str:
        """The most frequent shape, with a note when there are others."""
        most = max(self.shapes, key=lambda s: self.shapes[s], default="")
        return most + (f" and {len(self.shapes) - 1} more" if len(self.shapes) > 1 else "")


def shape_text(shape: Any) -> str:
    """`(64, 32)`, `()` for a scalar, '' where the ledger gives none."""
    if not isinstance(shape, (list, tuple)):
        return "" if shape is None else str(shape)
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


def flows(rows: Iterable[Mapping[str, Any]], *, by_client: bool = True, arrays: bool = False) -> list[Flow]:
    """The ledger added up over rounds, up (away from the client) before down, and without the client if so
    asked.

    Arrays of a group, such as a model's parameters, are one flow together, unless `arrays` asks for each. What a
    message costs beyond its fields (names, framing) is a flow of its own, `(envelope)`, so that the bytes add up to
    what was sent.
    """
    found: dict[tuple[Any, ...], Flow] = {}
    for row in rows:
        counted = bool(row.get("counted", True))
        names = [str(row.get(k, "")) for k in ("client", "direction", "verb", "message")]
        if not by_client:
            names[0] = ""
        parts = [f for f in row.get("fields") or () if isinstance(f, Mapping)]
        parts = parts if arrays else _grouped(parts)
        inside = sum(int(f.get("bytes") or 0) for f in parts)
        rest = int(row.get("encoded_bytes") or row.get("payload_bytes") or inside) - inside
        if rest > 0:
            parts = [*parts, {"name": "(envelope)", "bytes": rest}]
        for part in parts:
            name, dtype = str(part.get("name", "")), str(part.get("dtype") or "")
            client, direction, verb, message = names
            flow = found.setdefault(
                (*names, name, dtype, counted), Flow(client, direction, verb, message, name, dtype, counted)
            )
            shape = shape_text(part.get("shape"))
            flow.shapes[shape] = flow.shapes.get(shape, 0) + 1
            flow.messages += 1
            flow.bytes += int(part.get("bytes") or 0)
    return sorted(found.values(), key=lambda f: (f.client, f.direction != "up", not f.counted))


def _grouped(parts: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The fields of a message, those called `GROUP[NAME]` as one called GROUP."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    out: list[Mapping[str, Any]] = []
    for part in parts:
        group, bracket, _ = str(part.get("name", "")).partition("[")
        if not bracket:
            out.append(part)
            continue
        key = (group, str(part.get("dtype") or ""))
        if key not in found:
            found[key] = {"name": group, "dtype": key[1], "bytes": 0, "arrays": 0}
            out.append(found[key])
        found[key]["bytes"] += int(part.get("bytes") or 0)
        found[key]["arrays"] += 1
    for sums in found.values():
        number = sums.pop("arrays")
        sums["shape"] = f"{number} array{'s' if number > 1 else ''}"
    return out


def total(rows: Iterable[Mapping[str, Any]], direction: str) -> int:
    """Encoded bytes of the counted messages that went in a direction."""
    return sum(
        int(row.get("encoded_bytes") or 0)
        for row in rows
        if row.get("direction") == direction and row.get("counted", True)
    )
