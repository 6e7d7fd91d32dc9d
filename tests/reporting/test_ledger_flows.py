"""Groups of arrays in what crossed the wire."""

from __future__ import annotations

from fedloom.reporting.ledger import flows


def field(name: str, size: int, dtype: str = "float32") -> dict:
    return {"name": name, "dtype": dtype, "shape": [size], "bytes": 4 * size}


def row(client: str, *fields: dict, extra: int = 5) -> dict:
    size = sum(f["bytes"] for f in fields) + extra
    about = {"direction": "up", "verb": "fit", "message": "Update"}
    return {"client": client, **about, "fields": list(fields), "encoded_bytes": size}


LEDGER = [
    row("a", field("parameters[w]", 10), field("parameters[b]", 2), field("samples", 1, "int64")),
    row("a", field("parameters[w]", 10), field("parameters[b]", 2), field("samples", 1, "int64")),
    row("b", field("parameters[w]", 10)),
]


def test_arrays_of_a_group_are_one_line_and_no_byte_is_lost():
    found = {(f.client, f.name): f for f in flows(LEDGER)}
    assert set(found) == {
        *(("a", name) for name in ("parameters", "samples", "(envelope)")),
        *(("b", name) for name in ("parameters", "(envelope)")),
    }
    assert (found["a", "parameters"].shape, found["a", "parameters"].messages) == ("2 arrays", 2)
    assert found["a", "parameters"].bytes == 2 * 4 * 12
    assert found["b", "parameters"].shape == "1 array"
    together = {f.name: f for f in flows(LEDGER, by_client=False)}
    assert together["parameters"].messages == 3
    assert together["parameters"].shape == "2 arrays and 1 more"
    assert sum(f.bytes for f in together.values()) == sum(r["encoded_bytes"] for r in LEDGER)


def test_each_array_where_it_is_asked_for():
    names = [f.name for f in flows(LEDGER, arrays=True) if f.client == "a"]
    assert names == ["parameters[w]", "parameters[b]", "samples", "(envelope)"]


def test_groups_of_two_dtypes_are_two_lines():
    found = flows([row("a", field("x[w]", 3), field("x[n]", 3, "int64"))])
    assert [(f.name, f.dtype) for f in found][:2] == [("x", "float32"), ("x", "int64")]
