"""A back-off language model over pieces, small enough to ship and quick enough to stream.

The n-grams are the nodes of one trie in order of breadth: node 0 is the empty context, its children
are the unigrams, and so on. A child's key is ``parent · V + piece``; in this order keys only grow,
so that a whole beam's look-ups are one binary search. Id 0, CTC's blank, never stands in a text
and is the boundary of a sentence here.

The probability of a piece is that of the longest n-gram there is; for each piece of context that
has to be dropped on the way the context's back-off weight is paid (Katz, 1987).
"""

import json
import struct
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audiomamba.errors import ModelError
from audiomamba.kernels import native

__all__ = ["BOUNDARY", "Coded", "Column", "NgramModel", "Trie", "alike"]

BOUNDARY = 0
MAGIC = b"ammgram1"
LEVELS = 256  # of the stored log-probabilities and back-off weights
AT_ONCE = 1 << 16  # nodes, when loading
Ids = NDArray[np.intp]
Numbers = NDArray[np.signedinteger[Any]]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Coded:
    """Numbers of few values, a byte each; read like an array of float32, ``(n,)``.

    Attributes:
        codes: ``(n,)`` uint8.
        values: ``(LEVELS,)`` float32.
    """

    codes: NDArray[np.uint8]
    values: Floats

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, at: Any) -> Floats:
        found: Floats = self.values[self.codes[at]]
        return found

    def tobytes(self) -> bytes:
        """The float32 numbers, as of an array."""
        return self[:].tobytes()


Column = Floats | Coded


@dataclass(frozen=True, slots=True)
class Trie:
    """What is stored of a model, a column each; n nodes without the root, in order of breadth.

    Attributes:
        vocabulary: Number of pieces, V.
        order: Length of the longest n-grams.
        pieces: ``(n,)`` uint16, the last piece of each n-gram; rises among brothers.
        children: ``(n + 1,)`` uint16, how many children each node has, the root first.
        log_probs: ``(n,)``, natural.
        backoffs: ``(n,)``, log of the weight that is paid to leave this context.
    """

    vocabulary: int
    order: int
    pieces: NDArray[np.uint16]
    children: NDArray[np.uint16]
    log_probs: Column
    backoffs: Column


class NgramModel:
    """Scores pieces after contexts; a context is a node's number.

    Attributes:
        vocabulary: Number of pieces.
        fingerprint: Of what it says; a context means nothing to another model.

    Raises:
        ModelError: the columns do not fit each other.
    """

    def __init__(self, trie: Trie) -> None:
        n, V = len(trie.pieces), trie.vocabulary
        counts = trie.children
        if len(counts) != n + 1 or counts.sum(dtype=np.int64) != n or counts[0] != V:
            raise ModelError("language model: its columns do not make a trie")
        self.order, self.vocabulary = trie.order, V
        self.fingerprint = zlib.crc32(trie.log_probs.tobytes(), zlib.crc32(trie.pieces.tobytes()))
        # A million n-grams in a server: numbers are as small as they can be, those of loading too.
        number = np.int32 if (n + 1) * V < 2**31 else np.int64
        parents: Numbers = np.repeat(np.arange(n + 1, dtype=number), counts)
        self._keys = parents * V + trie.pieces
        if not (self._keys[1:] > self._keys[:-1]).all():
            raise ModelError("language model: brothers are not in order")
        # Of node 1 first: nothing leads to the root, and as all pieces follow it, nobody leaves it.
        self._log_probs, self._backoffs = trie.log_probs, trie.backoffs
        self._has_children = np.packbits(counts > 0, bitorder="little")
        self._suffix = self._suffixes(parents, counts)
        self.start = int(self._contexts(np.array([self._child(0, BOUNDARY)]))[0])
        """The context at the start of an utterance."""

    @cached_property
    def columns(self) -> native.Ngrams:
        """Where all of it lies, for the native search; as long as the model is there."""
        coded = [_coded(column) for column in (self._log_probs, self._backoffs)]
        (log_prob_codes, log_probs), (backoff_codes, backoffs) = coded
        return native.Ngrams(
            self._keys.ctypes.data,
            self._suffix.ctypes.data,
            self._has_children.ctypes.data,
            log_prob_codes,
            backoff_codes,
            log_probs,
            backoffs,
            len(self._keys),
            self.start,
            int(self._keys.itemsize == 8),
            self.vocabulary,
        )

    @property
    def trie(self) -> Trie:
        """What is stored of the model."""
        parents, pieces = np.divmod(self._keys, self.vocabulary)
        children = np.bincount(parents.astype(np.intp), minlength=len(self._keys) + 1)
        return Trie(
            vocabulary=self.vocabulary,
            order=self.order,
            pieces=pieces.astype(np.uint16),
            children=children.astype(np.uint16),
            log_probs=self._log_probs,
            backoffs=self._backoffs,
        )

    def score(
        self, contexts: NDArray[np.intp], pieces: NDArray[np.intp]
    ) -> tuple[Floats, NDArray[np.intp]]:
        """Log-probabilities ``(n,)`` of pieces after contexts, and the contexts after them."""
        at = contexts.copy()
        paid = np.zeros(len(at), np.float32)
        found = self._find(at * self.vocabulary + pieces)
        missing = np.flatnonzero(found < 0)
        while len(missing):
            paid[missing] += self._backoffs[at[missing] - 1]
            at[missing] = self._suffix[at[missing]]
            found[missing] = self._find(at[missing] * self.vocabulary + pieces[missing])
            missing = missing[found[missing] < 0]
        return paid + self._log_probs[found - 1], self._contexts(found)

    def perplexity(self, sentences: list[list[int]]) -> float:
        """Of whole sentences, their ends not counted."""
        total, count = 0.0, 0
        for sentence in sentences:
            context = np.array([self.start])
            for piece in sentence:
                score, context = self.score(context, np.array([piece]))
                total += float(score[0])
            count += len(sentence)
        return float(np.exp(-total / max(count, 1)))

    def save(self, path: Path) -> int:
        """Write the model; returns the file's size in bytes."""
        t = self.trie
        columns = t.log_probs[:], t.backoffs[:]
        log_probs, backoffs = (_Levels.of(column) for column in columns)
        header = {
            "vocabulary": t.vocabulary,
            "order": t.order,
            "nodes": len(t.pieces),
            "log_probs": [log_probs.low, log_probs.high],
            "backoffs": [backoffs.low, backoffs.high],
        }
        # Bytes of one rank together: the upper ones are nearly all alike.
        stored = [
            _split_bytes(t.pieces.astype("<u2").tobytes(), 2),
            _split_bytes(t.children.astype("<u2").tobytes(), 2),
            log_probs.pack(columns[0]),
            backoffs.pack(columns[1]),
        ]
        packed = zlib.compress(b"".join(stored), 9)
        text = json.dumps(header).encode()
        path.write_bytes(MAGIC + struct.pack("<I", len(text)) + text + packed)
        return path.stat().st_size

    @classmethod
    def load(cls, path: Path) -> "NgramModel":
        """Read a model.

        Raises:
            ModelError: there is no such file, or it holds something else.
        """
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise ModelError(f"language model: cannot read {path}: {error.strerror}") from None
        if raw[: len(MAGIC)] != MAGIC:
            raise ModelError(f"{path}: not a language model")
        try:
            size = struct.unpack_from("<I", raw, len(MAGIC))[0]
            start = len(MAGIC) + 4
            header = json.loads(raw[start : start + size])
            trie = _unpack(header, zlib.decompress(raw[start + size :]))
        except (ValueError, KeyError, TypeError, struct.error, zlib.error) as error:
            raise ModelError(f"{path}: damaged ({error})") from None
        return cls(trie)

    def _find(self, keys: NDArray[np.intp]) -> NDArray[np.intp]:
        """Nodes of keys, -1 where there is none."""
        # In the stored type: numpy would copy all of them into the larger one at each call.
        wanted = keys.astype(self._keys.dtype)
        at = np.minimum(np.searchsorted(self._keys, wanted), len(self._keys) - 1)
        return np.where(self._keys[at] == keys, at + 1, -1)

    def _child(self, node: int, piece: int) -> int:
        return int(self._find(np.array([node * self.vocabulary + piece]))[0])

    def _contexts(self, nodes: NDArray[np.intp]) -> NDArray[np.intp]:
        """The longest suffix of each n-gram that something is known to follow."""
        at = nodes.copy()
        dead = np.flatnonzero(self._ends(at))
        while len(dead):
            at[dead] = self._suffix[at[dead]]
            dead = dead[self._ends(at[dead])]
        return at

    def _ends(self, nodes: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Whether nothing is known to follow."""
        bits = self._has_children[nodes >> 3] >> (nodes & 7).astype(np.uint8)
        dead: NDArray[np.bool_] = (bits & 1) == 0
        return dead

    def _suffixes(self, parents: Numbers, counts: NDArray[np.uint16]) -> Numbers:
        """The longest n-gram there is that ends as each one does; of a unigram it is the root."""
        suffix = np.zeros(len(parents) + 1, parents.dtype)
        if native.why_not() is None:
            wide = int(suffix.itemsize == 8)
            native.library().am_ngrams_link(
                self._keys.ctypes.data, len(self._keys), wide, self.vocabulary, suffix.ctypes.data
            )
            return suffix
        # First child of each node, and the number after the last.
        first = np.concatenate([[1], 1 + np.cumsum(counts, dtype=parents.dtype)])
        begin, end = 1, self.vocabulary + 1
        while begin < end:
            begin, end = int(first[begin]), int(first[end])
            for start in range(begin, end, AT_ONCE):
                nodes = np.arange(start, min(start + AT_ONCE, end))
                suffix[nodes] = self._shorter(nodes, parents, suffix)
        return suffix

    def _shorter(self, nodes: NDArray[np.intp], parents: Numbers, suffix: Numbers) -> Ids:
        """Those of nodes longer than unigrams, whose parents' are known."""
        pieces = self._keys[nodes - 1] % self.vocabulary
        at = suffix[parents[nodes - 1]].astype(np.intp)
        found = self._find(at * self.vocabulary + pieces)
        missing = np.flatnonzero(found < 0)
        while len(missing):
            at[missing] = suffix[at[missing]]
            found[missing] = self._find(at[missing] * self.vocabulary + pieces[missing])
            missing = missing[found[missing] < 0]
        return found


@dataclass(frozen=True, slots=True)
class _Levels:
    """Equal steps between the smallest and the largest value."""

    low: float
    high: float

    @classmethod
    def of(cls, values: Floats) -> "_Levels":
        return cls(float(values.min()), float(values.max()))

    def pack(self, values: Floats) -> bytes:
        step = (self.high - self.low) / (LEVELS - 1) or 1.0
        return bytes(np.rint((values - self.low) / step).astype(np.uint8))

    def unpack(self, packed: bytes) -> Coded:
        values: Floats = np.linspace(self.low, self.high, LEVELS, dtype=np.float32)
        # Of its own: else the whole file's bytes would stay.
        return Coded(np.frombuffer(packed, np.uint8).copy(), values)


def alike(vocabulary: int) -> NgramModel:
    """The model to which any piece is as likely as another, for a search that ranks by others."""
    children = np.zeros(vocabulary + 1, np.uint16)
    children[0] = vocabulary
    return NgramModel(
        Trie(
            vocabulary=vocabulary,
            order=1,
            pieces=np.arange(vocabulary, dtype=np.uint16),
            children=children,
            log_probs=np.full(vocabulary, -np.log(vocabulary), np.float32),
            backoffs=np.zeros(vocabulary, np.float32),
        )
    )


def _coded(column: Column) -> tuple[int | None, int]:
    """Addresses of a column's codes, if it has some, and of its values."""
    if isinstance(column, Coded):
        return column.codes.ctypes.data, column.values.ctypes.data
    return None, column.ctypes.data


def _unpack(header: dict[str, object], columns: bytes) -> Trie:
    n = int(str(header["nodes"]))
    ends = np.cumsum([2 * n, 2 * (n + 1), n, n])
    if len(columns) != ends[-1]:
        raise ValueError(f"wants {ends[-1]} bytes, got {len(columns)}")
    pieces, children, log_probs, backoffs = (
        columns[end - size : end]
        for end, size in zip(ends, (2 * n, 2 * (n + 1), n, n), strict=True)
    )
    return Trie(
        vocabulary=int(str(header["vocabulary"])),
        order=int(str(header["order"])),
        pieces=_join_bytes(pieces),
        children=_join_bytes(children),
        log_probs=_Levels(*header["log_probs"]).unpack(log_probs),  # type: ignore[misc]
        backoffs=_Levels(*header["backoffs"]).unpack(backoffs),  # type: ignore[misc]
    )


def _split_bytes(column: bytes, width: int) -> bytes:
    return np.frombuffer(column, np.uint8).reshape(-1, width).T.tobytes()


def _join_bytes(column: bytes) -> NDArray[np.uint16]:
    pairs = np.frombuffer(column, np.uint8).reshape(2, -1).T
    return np.ascontiguousarray(pairs).view("<u2").reshape(-1)
