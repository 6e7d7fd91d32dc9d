"""Independent readers that several surfaces share, written for plainness and checked node by node."""

from __future__ import annotations

import json
import math
import re
import sys
from contextlib import suppress
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from fuzz.harness import Refused, Unsure


class _Object(list[tuple[str, Any]]):
    """The pairs of a JSON object."""


def strict_json(data: bytes, *, finite: bool = True, halves: bool = False, own: bool = False) -> Any:
    """The value in UTF-8 JSON with unique keys, clean texts and (unless told otherwise) finite numbers; or Refused."""
    try:
        return _node(json.loads(data.decode("utf-8-sig"), object_pairs_hook=_Object), finite, halves, own, 1)
    except (ValueError, RecursionError) as error:
        raise Refused(f"no strict JSON: {str(error)[:60]}") from None


def _node(node: Any, finite: bool, halves: bool, own: bool, depth: int) -> Any:
    if isinstance(node, list) and depth > 64:
        raise ValueError("deep")
    rest = finite, halves, own, depth + 1
    if isinstance(node, _Object):
        if len({key for key, _ in node}) < len(node):
            raise ValueError("a key twice")
        return {_node(key, *rest): _node(value, *rest) for key, value in node}
    if isinstance(node, list):
        return [_node(item, *rest) for item in node]
    if isinstance(node, str) and not own and not whole(node, halves):
        raise ValueError("half a character, or a control character")
    if isinstance(node, int) and abs(node) > int(sys.float_info.max):
        raise ValueError("too large")
    if isinstance(node, float) and finite and not math.isfinite(node):
        raise ValueError("not finite")
    return node


def whole(text: str, halves: bool = False) -> bool:
    """Whether a text is of whole characters (or of halves for bytes), and no controls but newline and tab."""
    return not any(
        (c < " " and c not in "\n\t") or "\x7f" <= c <= "\x9f" or "\ud800" <= c <= "\udfff"
        for c in text
        if not (halves and "\udc80" <= c <= "\udcff")
    )


def json_object(data: bytes) -> dict[str, Any]:
    """A strict JSON object, or Refused."""
    value = strict_json(data, halves=True)
    if not isinstance(value, dict):
        raise Refused(f"a {type(value).__name__}, no object")
    return value


def json_lines(data: bytes) -> list[dict[str, Any]]:
    """A strict JSON object a line; a last line without its newline may be torn, and is then left out."""
    *lines, last = data.split(b"\n")
    rows = [strict_json(line, halves=True) for line in lines if line.strip()]
    if last.strip():
        with suppress(Refused):
            rows.append(strict_json(last, halves=True))
    if not all(isinstance(row, dict) for row in rows):
        raise Refused("a line that is no object")
    return rows


_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


def core_yaml(data: bytes) -> Any:
    """What YAML in UTF-8 says by the core schema of YAML 1.2, each key a word and once; else Refused, or Unsure."""
    try:
        return _yaml(yaml.compose(data.decode("utf-8-sig"), yaml.BaseLoader), 0)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        if "'\\t' that cannot start" in str(error):
            raise Unsure from None  # between words a tab is as good as a blank, and this reader does not know it
        raise Refused(f"no YAML: {str(error)[:60]}") from None


def _yaml(node: Any, depth: int) -> Any:
    if node is None:
        return None
    if depth > 50 or (node.tag not in _KINDS and node.tag != "!"):
        raise Unsure
    if isinstance(node, yaml.ScalarNode) and not whole(node.value, halves=True):
        raise Refused("half a character, or a control character")
    if isinstance(node, yaml.SequenceNode):
        return [_yaml(item, depth + 1) for item in node.value]
    if isinstance(node, yaml.MappingNode):
        keys = [_yaml(key, depth + 1) for key, _ in node.value]
        if any(key == "<<" or (isinstance(key, str) and "." in key) for key in keys):
            raise Unsure  # what is merged; a path of keys, which settings may be given by
        if not all(isinstance(key, str) for key in keys) or len(set(keys)) < len(keys):
            raise Refused("a key twice, or none that is a word")
        return dict(zip(keys, (_yaml(value, depth + 1) for _, value in node.value)))
    if node.style is not None:
        return node.value
    word = node.value.lower()
    if word in ("~", "null", "", "true", "false") and node.value in (word, word.upper(), word.capitalize()):
        return {"true": True, "false": False}.get(word)
    if _INT.fullmatch(node.value):
        return int(node.value) if node.value.lstrip("+-").isdecimal() else int(node.value, 0)
    if re.fullmatch(r"[-+]?\.inf|\.nan", node.value, re.IGNORECASE):
        return float(node.value.replace(".", ""))
    return float(node.value) if _FLOAT.fullmatch(node.value) else node.value


def same_number(taken: Any, given: Any) -> bool:
    """Whether a number is the one that was given: in words too, a whole one also as the float next to it."""
    if type(taken) not in (int, float) or type(given) not in (int, float, str):
        return False
    found: list[Any] = []
    for kind in (int, float):
        with suppress(ValueError, OverflowError):
            found.append(kind(given))
    return taken in found if isinstance(given, str) else taken in (given, *found[1:])


def same_truth(taken: Any, given: Any) -> bool:
    """Whether a truth value is the one that was given, in a word or as 0 or 1."""
    words = ("true", "yes", "on", "y", "t", "1", "false", "no", "off", "n", "f", "0")
    said = str(given).lower().removesuffix(".0").lstrip("-")
    return isinstance(taken, bool) and said in words and taken == (words.index(said) < 6)


_KINDS = tuple(f"tag:yaml.org,2002:{kind}" for kind in ("str", "seq", "map"))


def tensors(data: bytes) -> dict[str, NDArray[Any]]:
    """The arrays of a safetensors file: u64 length, JSON header, bytes; or Refused. Offsets must tile the rest."""
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 + size:
        raise Refused("too short")
    header, body = json_object(data[8 : 8 + size]), data[8 + size :]
    header.pop("__metadata__", None)
    found, at = {}, 0
    for name, row in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        start, end = row["data_offsets"]
        dtype = np.dtype(_DTYPES[row["dtype"]])
        if start != at or end - start != math.prod(row["shape"]) * dtype.itemsize or end > len(body):
            raise Refused("offsets")
        found[name], at = np.frombuffer(body[start:end], dtype).reshape(row["shape"]), end
    if at != len(body):
        raise Refused("bytes left over")
    return dict(sorted(found.items()))


_DTYPES = {
    "F32": "<f4", "F64": "<f8", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1",
    "U16": "<u2", "U32": "<u4", "U64": "<u8", "BOOL": "?",
}  # fmt: skip
