"""Arrays in files: CIFAR-100 (binary, pickles), MATLAB files."""

from __future__ import annotations

import io
import pickle
import pickletools
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from scipy.io import loadmat, savemat

from fedloom.data.datasets.flowers102 import NAMES
from fedloom.data.registry import load_dataset
from fuzz.harness import Refused, Surface, Unsure
from fuzz.inputs import Input
from fuzz.odd_values import ODD_VALUES
from fuzz.pictures import SIDE, pixels, png
from fuzz.surfaces.images import told

FINE = ("apple", "bear", "clock")


# --------------------------------------------------------------------------------------------------------- CIFAR-100


def draw_binary(rng: Random) -> Input:
    files: dict[str, Any] = {
        "fine_label_names.txt": "\n".join(FINE).encode(),
        "coarse_label_names.txt": b"x\ny\n",
    }
    for part in ("train", "test"):
        files[f"{part}.bin"] = b"".join(bytes([i % 2, i % 3]) + rng.randbytes(3072) for i in range(3))
    return Input(files)


def read_cifar(folder: Path, given: Input) -> Any:
    return told(load_dataset("cifar100", folder, generic_share=0.0))


def _picture(planes: bytes) -> bytes:
    """Planes of red, green and blue as pixels."""
    return bytes(b for rgb in zip(planes[:1024], planes[1024:2048], planes[2048:]) for b in rgb)


def true_binary(folder: Path, given: Input) -> Any:
    """Records of two labels and three planes."""
    names = _names(given.files["fine_label_names.txt"])
    found: dict[str, Any] = {"classes": names}
    for part in ("train", "test"):
        data: Any = given.files[f"{part}.bin"]
        if len(data) % 3074 or not data:
            raise Refused("a record is cut")
        records = [data[i : i + 3074] for i in range(0, len(data), 3074)]
        found[part] = [(_picture(r[2:]), names[r[1]]) for r in records]
    return found


def _names(data: Any) -> list[str]:
    lines = data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n").rstrip().split("\n")
    if not all(line.isascii() and line.isprintable() and "_" not in line for line in lines):
        raise Unsure
    names = [" ".join(line.split()) for line in lines]
    if not all(names) or len({n.lower() for n in names}) < len(names):
        raise Refused("names")
    return names


def draw_pickles(rng: Random) -> Input:
    """The three files of the layout for Python, by some protocol."""
    protocol = rng.choice((2, 3, 4, 5)) if rng.random() < 0.7 else 2
    meta = {b"fine_label_names": [n.encode() for n in FINE], b"coarse_label_names": [b"x", b"y"]}
    files: dict[str, Any] = {"meta": pickle.dumps(meta, 2)}
    for part in ("train", "test"):
        planes = np.frombuffer(rng.randbytes(3 * 3072), np.uint8).reshape(3, 3072).copy()
        content = {
            b"data": planes,
            b"fine_labels": [0, 1, 2],
            b"coarse_labels": [0, 1, 0],
            b"filenames": [b"a", b"b", b"c"],
        }
        files[part] = pickle.dumps(content, min(protocol, 4))
    return Input(files)


_EVIL = (
    *(
        b"cos\nsystem\n(S'touch x'\ntR.",
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"(lp0\ng0\na.",
        b"(" * 100_000 + b".",
    ),
    *(b"]" + b"2a" * 3000 + b".", b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7f.", b"T\xff\xff\xff\x7f."),
    b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR.",
)


def damage_pickle(rng: Random, given: Input) -> Input:
    """Another value in the place of one, or a pickle that calls what it must not."""
    name = rng.choice([n for n in given.files if isinstance(given.files[n], bytes)] or ["train"])
    if rng.random() < 0.3:
        return given.replace(name, rng.choice(_EVIL))
    content: dict[Any, Any] = {
        b"data": np.zeros((3, 3072), np.uint8), b"fine_labels": [0, 1, 2], b"coarse_labels": [0, 0, 0],
        b"fine_label_names": list(FINE), b"coarse_label_names": ["x"],
    }  # fmt: skip
    shapes: Any = (*((3, 3072), (3, 5), (0,)), (3072, 3))
    arrays = [np.ones(shape, rng.choice(("uint8", "float32", "object"))) for shape in shapes]
    lists: Any = ([0, 1, 10**30], [0, 1, -1], [0, 1, True])
    content[rng.choice(list(content))] = rng.choice((*ODD_VALUES, *lists, *arrays, arrays[3].T))
    return given.replace(name, pickle.dumps(content, rng.choice((2, 4))))


_CALLS = (
    "numpy._core.multiarray _reconstruct",
    "numpy.core.multiarray _reconstruct",
    "numpy ndarray",
    "numpy dtype",
    "_codecs encode",
)


def true_pickles(folder: Path, given: Input) -> Any:
    """Python's own reader, on pickles that name nothing but NumPy's constructors."""
    content: dict[str, Any] = {}
    for name in ("meta", "train", "test"):
        data: Any = given.files[name]
        texts: list[str] = []
        for op, arg, _ in pickletools.genops(data):
            if op.name == "GLOBAL":
                texts.append(str(arg))
            elif op.name == "STACK_GLOBAL":
                texts.append("numpy ndarray")  # which names it takes is seen below: find_class would be needed
            elif op.name in (
                "INST",
                "OBJ",
                "NEWOBJ",
                "NEWOBJ_EX",
                "PERSID",
                "BINPERSID",
                "EXT1",
                "EXT2",
                "EXT4",
            ):
                raise Refused(op.name)
        if not set(texts) <= set(_CALLS):
            raise Refused("it calls something else")
        content[name] = _Plain(io.BytesIO(data), encoding="bytes").load()
    names = [n.decode() if isinstance(n, bytes) else n for n in _entry(content["meta"], "fine_label_names")]
    names = _names("\n".join(names).encode())
    found: dict[str, Any] = {"classes": names}
    for part in ("train", "test"):
        planes, labels = (_entry(content[part], key) for key in ("data", "fine_labels"))
        if (
            planes.dtype != np.uint8
            or planes.shape != (len(labels), 3072)
            or not all(type(n) is int and n >= 0 for n in labels)
        ):
            raise Refused("shapes or labels")
        found[part] = [(_picture(p.tobytes()), names[n]) for p, n in zip(planes, labels)]
    return found


def _entry(content: dict[Any, Any], key: str) -> Any:
    return content[key] if key in content else content[key.encode()]


class _Plain(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if f"{module} {name}" not in _CALLS:
            raise Refused("it calls something else")
        return super().find_class(module, name)


# ------------------------------------------------------------------------------------------------------- Flowers-102


def draw_flowers(rng: Random) -> Input:
    """Six pictures of two kinds, labels and parts in MATLAB files."""

    def mat(**arrays: Any) -> bytes:
        out = io.BytesIO()
        savemat(out, {k: np.array(v)[None] for k, v in arrays.items()}, do_compression=rng.random() < 0.5)
        return out.getvalue()

    files: dict[str, Any] = {"imagelabels.mat": mat(labels=np.array([1, 2, 1, 2, 1, 2], np.uint8))}
    files["setid.mat"] = mat(
        trnid=np.array([1, 2], np.uint16),
        valid=np.array([3, 4], np.uint16),
        tstid=np.array([5, 6], np.uint16),
    )
    return Input({**files, **{f"jpg/image_{i:05d}.jpg": png(rng) for i in range(1, 7)}})


def damage_matrices(rng: Random, given: Input) -> Input:
    """Other numbers in the matrices, or matrices of another kind."""
    lists: Any = (
        [1.5, 2],
        [0, 7],
        [np.nan, 1.0],
        ["a", "b"],
        [],
        [-1, 2**40],
        [1e30, 1],
        [1, 1],
        [True, False],
        [1 + 2j, 2],
    )
    odd: Any = rng.choice([*map(np.array, lists), {"a": 1}, np.empty(2, dtype=object)])
    out = io.BytesIO()
    content: dict[str, Any] = {k: np.array([1, 2], np.uint8) for k in ("labels", "trnid", "valid", "tstid")}
    content[rng.choice(list(content))] = odd
    try:
        savemat(out, content)
    except Exception:  # noqa: BLE001 - scipy cannot write all of it
        return given
    return given.replace(rng.choice(("imagelabels.mat", "setid.mat")), out.getvalue())


def read_flowers(folder: Path, given: Input) -> Any:
    return told(load_dataset("flowers102", folder, size=SIDE, captions=0, generic_share=0.0))


def true_flowers(folder: Path, given: Input) -> Any:
    """Pictures by number, in order."""
    labels = loadmat(io.BytesIO(given.files["imagelabels.mat"]))["labels"].ravel()  # type: ignore[arg-type]
    sets = loadmat(io.BytesIO(given.files["setid.mat"]))  # type: ignore[arg-type]
    parts = {"train": [*sets["trnid"].ravel(), *sets["valid"].ravel()], "test": [*sets["tstid"].ravel()]}
    if any(float(n) != int(n) for n in (*labels, *parts["train"], *parts["test"])):
        raise Refused("numbers that are not whole")
    found: dict[str, Any] = {"classes": [" ".join(name.split()) for name in NAMES]}
    for part, numbers in parts.items():
        rows = []
        for n in sorted(int(n) for n in numbers):
            if n < 1 or not 1 <= int(labels[n - 1]) <= 102:
                raise Refused("a number out of range")
            picture: Any = given.files[f"jpg/image_{n:05d}.jpg"]
            rows.append((pixels(picture).tobytes(), NAMES[int(labels[n - 1]) - 1]))
        found[part] = rows
    return found


SURFACES = (
    Surface("cifar100 binary", draw_binary, read_cifar, true_binary, share=0.7),
    Surface("cifar100 pickles", draw_pickles, read_cifar, true_pickles, (damage_pickle,)),
    Surface("flowers102", draw_flowers, read_flowers, true_flowers, (damage_matrices,)),
)
