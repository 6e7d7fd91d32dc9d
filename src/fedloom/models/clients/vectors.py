"""Word vectors on disk (GloVe, word2vec as text, or arrays), and the word-level tokenizer that goes with them."""

from __future__ import annotations

import functools
import itertools
import logging
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedloom.errors import BadInput
from fedloom.models.clients.text import SPECIAL

log = logging.getLogger(__name__)

_MEAN_OF_ALL = ("[UNK]", "[MASK]")  # stand for some word; the other special tokens for none


def is_vectors(pretrained: str) -> bool:
    """Whether a gru's `pretrained` is a file of word vectors, rather than a folder of a trained model.

    Raises:
        BadInput: it is neither.
    """
    path = Path(pretrained)
    if not path.exists():
        raise BadInput(f"gru: pretrained = {pretrained!r}: no such file of word vectors, nor folder of an exported gru")
    return path.is_file()


def load_vectors(path: str | Path) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    """The W words of a file of word vectors, and their vectors (W, E), read-only. The last file read is kept.

    Args:
        path: text, "word v1 ... vE" a line (GloVe; word2vec's first line "W E" may precede); or NAME.npz with `words`
            (text) and `vectors` (float16 or float32). Of a word that comes twice the first is kept; a warning counts
            the others.

    Raises:
        BadInput: no such file, nothing in it, or the first line that is broken, too short or long, or not finite.
    """
    file = Path(path)
    try:
        about = file.stat()
    except OSError as error:
        raise BadInput(f"word vectors {file}: {error.strerror}") from None
    return _load(str(file), about.st_mtime_ns, about.st_size)


@functools.lru_cache(maxsize=1)  # a site wants them twice: for its tokenizer and for its model
def _load(path: str, changed_ns: int, size_bytes: int) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    words, vectors = _from_npz(path) if path.endswith(".npz") else _from_text(path)
    first: dict[str, int] = {}
    for i, word in enumerate(words):
        first.setdefault(word, i)
    if len(first) < len(words):
        log.warning("word vectors %s: %d repeated words, the first of each is kept", path, len(words) - len(first))
        vectors = vectors[list(first.values())]
    vectors.flags.writeable = False
    return tuple(first), vectors


def _from_npz(path: str) -> tuple[Sequence[str], NDArray[np.float32]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            words, vectors = file["words"], file["vectors"]
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise BadInput(f"word vectors {path}: {' '.join(str(error).split())}") from None
    if words.dtype.kind != "U" or words.ndim != 1:
        raise BadInput(f"word vectors {path}: `words` is {words.dtype} {words.shape}, expected text (W,)")
    if vectors.dtype.kind != "f" or vectors.ndim != 2 or len(vectors) != len(words) or not vectors.size:
        raise BadInput(
            f"word vectors {path}: `vectors` is {vectors.dtype} {vectors.shape} for {len(words)} words, "
            "expected floats (W, E) with W and E above 0"
        )
    if not (good := np.isfinite(vectors).all(axis=1)).all():
        row = int(good.argmin())
        raise BadInput(f"word vectors {path}: row {row}, {str(words[row])!r}, is not finite")
    return [str(word) for word in words], vectors.astype(np.float32)


def _from_text(path: str) -> tuple[Sequence[str], NDArray[np.float32]]:
    words: list[str] = []
    rows: list[NDArray[np.float32]] = []
    stated, width = None, 0
    # Some words of GloVe hold characters that `splitlines` takes for line ends.
    with open(path, encoding="utf-8", newline="\n") as file:
        for n, line in enumerate(_decoded(file, path), 1):
            fields = line.rstrip(" \r\n").split(" ")
            if n == 1 and len(fields) == 2 and all(f.isascii() and f.isdigit() for f in fields):
                stated = int(fields[0])
                width = int(fields[1])
                continue
            width = width or len(fields) - 1
            word, row = _parsed(fields, width, f"word vectors {path}, line {n}")
            words.append(word)
            rows.append(row)
    if not rows:
        raise BadInput(f"word vectors {path}: no words in it")
    if stated not in (None, len(rows)):
        raise BadInput(f"word vectors {path}: its first line says {stated} words, there are {len(rows)}")
    return words, np.stack(rows)


def _decoded(file: Iterator[str], path: str) -> Iterator[str]:
    for n in itertools.count(1):
        try:
            line = next(file, None)
        except UnicodeDecodeError:
            raise BadInput(f"word vectors {path}: line {n} or soon after it is no UTF-8 text") from None
        if line is None:
            return
        yield line


def _parsed(fields: list[str], width: int, where: str) -> tuple[str, NDArray[np.float32]]:
    """The word and the vector (E,) of one line. Some words of GloVe hold spaces, none ends in a number."""
    if len(fields) <= width or width < 1:
        raise BadInput(f"{where}: {len(fields) - 1} numbers after the word, expected {width or 'some'}")
    word, numbers = fields[:-width], fields[-width:]
    if len(word) > 1 and _is_number(word[-1]):
        raise BadInput(f"{where}: {len(fields) - 1} numbers after the word, expected {width}")
    try:
        row = np.array([float(x) for x in numbers], dtype=np.float32)
    except ValueError as error:
        raise BadInput(f"{where}: {error}") from None
    if not np.isfinite(row).all():
        raise BadInput(f"{where}: the vector of {' '.join(word)!r} is not finite")
    return " ".join(word), row


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def vocabulary(words: Sequence[str]) -> dict[str, int]:
    """Token -> id: the special tokens first, then the words in their order."""
    return {token: i for i, token in enumerate(dict.fromkeys([*SPECIAL, *words]))}


def embedding_rows(words: Sequence[str], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors (V, E) of all tokens of `vocabulary`, by id: [UNK] and [MASK] the mean of all, the others begin at 0."""
    ids = vocabulary(words)
    rows = np.zeros((len(ids), vectors.shape[1]), np.float32)
    rows[[ids[word] for word in words]] = vectors
    rows[: len(SPECIAL)] = 0
    rows[[ids[token] for token in _MEAN_OF_ALL]] = vectors.mean(axis=0)
    return rows


def vector_tokenizer(words: Sequence[str], tokens: int) -> Any:
    """A lower-casing tokenizer of whole words, split at spaces and punctuation; ids are those of `vocabulary`.

    Args:
        words: the words it knows; all others are [UNK].
        tokens: the longest row, in tokens.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    from fedloom.models.clients.text import wrapped

    ids = vocabulary(words)
    pieces = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    pieces.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=False)
    pieces.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    pieces.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])]
    )
    return wrapped(pieces, tokens)
