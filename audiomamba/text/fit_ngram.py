"""Fit the n-gram language model of a vocabulary to a text pool::

    python -m audiomamba.text.fit_ngram text.tar --tokenizer tokenizer.model --order 6 \\
        --exclude dev.jsonl digits.jsonl --commands --megabytes 8 --out pieces.ngram

Interpolated Kneser-Ney with three discounts an order (Chen and Goodman, 1999), then weighted
difference pruning (Seymore and Rosenfeld, 1996) to the size that is asked for. ``--exclude`` names
manifests whose sentences must stay unknown: what shares a run of eight words with one of them is
left out of the text. ``--commands`` adds digits and command words, said alone and in lists.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audiomamba.errors import ConfigError
from audiomamba.text.fit import COMMANDS, pool_sentences, record_sentences
from audiomamba.text.ngram import BOUNDARY, NgramModel, Trie
from audiomamba.text.vocabulary import Vocabulary

__all__ = ["fit", "spoken_lists", "without"]

Keys = NDArray[np.uint64]
Floats = NDArray[np.float64]

RUN = 8  # words; a shared run this long is taken for the same text
_BYTES_A_NODE = 2.9  # on disk, with those that lead to the kept ones
_KEPT = 2  # n-grams from this order on may be pruned


def fit(
    sentences: Iterable[Sequence[int]], vocabulary: int, *, order: int, nodes: int
) -> NgramModel:
    """Fit a model to sentences of piece ids.

    Args:
        sentences: Ids in 1..vocabulary - 1; 0 marks their boundaries.
        vocabulary: Number of pieces.
        order: Length of the longest n-grams; ``vocabulary ** order`` must fit 63 bits.
        nodes: The most n-grams to keep.

    Raises:
        ConfigError: the n-grams of that order do not fit a key.
    """
    bits = max(1, (vocabulary - 1).bit_length())
    if not 1 <= order <= 63 // bits:
        raise ConfigError(f"language model: wants an order in 1..{63 // bits}, got {order}")
    orders = _probabilities(_count(sentences, bits, order), vocabulary, bits)
    return NgramModel(_trie(_prune(orders, bits, nodes), vocabulary, bits))


class _Order:
    """The n-grams of one length: keys, ``p(w | h)`` and the weight of backing off from each."""

    def __init__(self, keys: Keys, probability: Floats, below: Floats) -> None:
        self.keys = keys  # (n,) sorted, a piece each ``bits`` bits, the oldest uppermost
        self.probability = probability  # (n,) interpolated
        self.below = below  # (n,) p(w | h without its oldest piece)
        self.mass = probability  # (n,) what pruning one costs; set by _probabilities


def _count(sentences: Iterable[Sequence[int]], bits: int, order: int) -> list[tuple[Keys, Floats]]:
    """Unique n-grams of each order and their counts; the boundary stands only first or last."""
    text = np.fromiter(
        (piece for sentence in sentences for piece in (BOUNDARY, *sentence)), np.uint64
    )
    text = np.append(text, np.uint64(BOUNDARY))
    starts = np.flatnonzero(text == BOUNDARY)
    age = np.arange(len(text)) - starts[np.searchsorted(starts, np.arange(len(text)), "right") - 1]
    # A boundary also ends the sentence before it.
    age[starts[1:]] = np.diff(starts)
    counted = []
    key = np.zeros(len(text), np.uint64)
    for n in range(1, order + 1):
        shifted = np.concatenate([np.zeros(n - 1, np.uint64), text[: len(text) - n + 1]])
        key |= shifted << np.uint64(bits * (n - 1))
        keys, counts = np.unique(key[age >= n - 1][1 if n == 1 else 0 :], return_counts=True)
        counted.append((keys, counts.astype(np.float64)))
    return counted


def _probabilities(counted: list[tuple[Keys, Floats]], vocabulary: int, bits: int) -> list[_Order]:
    """Interpolated Kneser-Ney of every order."""
    adjusted = [
        *(_continuations(counted, n, bits) for n in range(len(counted) - 1)),
        counted[-1][1],
    ]
    orders: list[_Order] = []
    for n, ((keys, raw), counts) in enumerate(zip(counted, adjusted, strict=True)):
        contexts = keys >> np.uint64(bits)
        starts = np.flatnonzero(np.concatenate([[True], contexts[1:] != contexts[:-1]]))
        which = np.cumsum(np.isin(np.arange(len(keys)), starts)) - 1
        total = np.add.reduceat(counts, starts)[which]
        discount = _discounts(counts)[np.minimum(counts, 3).astype(int)]
        left = np.add.reduceat(discount, starts)[which] / total
        if n:
            tail = keys & np.uint64((1 << (bits * n)) - 1)
            below = orders[-1].probability[np.searchsorted(orders[-1].keys, tail)]
        else:
            below = np.full(len(keys), 1 / vocabulary)
        one = _Order(keys, (counts - discount) / total + left * below, below)
        one.mass = raw * (np.log(one.probability) - np.log(left * below))
        orders.append(one)
    return orders


def _continuations(counted: list[tuple[Keys, Floats]], n: int, bits: int) -> Floats:
    """How many different pieces come before each n-gram; of a sentence's start, how often it is."""
    keys, raw = counted[n]
    longer = counted[n + 1][0]
    tails, counts = np.unique(longer & np.uint64((1 << (bits * (n + 1))) - 1), return_counts=True)
    out = raw.copy()
    out[np.searchsorted(keys, tails)] = counts
    starts = keys >> np.uint64(bits * n) == BOUNDARY
    if n:
        out[starts] = raw[starts]
    return out


def _discounts(counts: Floats) -> Floats:
    """What is taken off a count of 0, 1, 2 and more; Chen and Goodman, 1999, equation 26."""
    n1, n2, n3, n4 = (float((counts == k).sum()) for k in (1, 2, 3, 4))
    if not min(n1, n2, n3, n4):  # too little text to tell
        return np.array([0.0, 0.5, 1.0, 1.5])
    y = n1 / (n1 + 2 * n2)
    wanted = np.array([0.0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3])
    clipped: Floats = np.clip(wanted, 0.1, np.array([0.1, 0.95, 1.9, 2.9]))
    return clipped


def _prune(orders: list[_Order], bits: int, nodes: int) -> list[_Order]:
    """The ``nodes`` n-grams that cost most to lose, and all that lead to them."""
    loss = np.concatenate([one.mass for one in orders[_KEPT - 1 :]])
    room = max(0, nodes - sum(len(one.keys) for one in orders[: _KEPT - 1]))
    threshold = (
        np.partition(loss, len(loss) - room)[len(loss) - room] if room < len(loss) else -np.inf
    )
    out: list[_Order] = []
    needed: Keys | None = None
    for n in reversed(range(len(orders))):
        one = orders[n]
        keep = one.mass >= threshold if n >= _KEPT - 1 else np.ones(len(one.keys), bool)
        if needed is not None:
            keep[np.searchsorted(one.keys, needed)] = True
        kept = _Order(one.keys[keep], one.probability[keep], one.below[keep])
        needed = np.unique(kept.keys >> np.uint64(bits)) if n else None
        out.append(kept)
    return out[::-1]


def _trie(orders: list[_Order], vocabulary: int, bits: int) -> Trie:
    """Columns of the model; back-off weights make the kept n-grams of a context sum to one."""
    orders[0] = _all_pieces(orders[0], vocabulary)
    children = [np.array([vocabulary])]
    backoffs = []
    for one, longer in zip(orders, [*orders[1:], None], strict=True):
        count, weight = np.zeros(len(one.keys), np.int64), np.zeros(len(one.keys))
        if longer is not None and len(longer.keys):
            at = np.searchsorted(one.keys, longer.keys >> np.uint64(bits))
            count = np.bincount(at, minlength=len(one.keys))
            seen = np.bincount(at, longer.probability, minlength=len(one.keys))
            covered = np.bincount(at, longer.below, minlength=len(one.keys))
            left = np.maximum(1e-6, 1 - seen) / np.maximum(1e-6, 1 - covered)
            weight = np.where(count > 0, np.log(left), 0.0)
        children.append(count)
        backoffs.append(weight)
    last = np.uint64((1 << bits) - 1)
    return Trie(
        vocabulary=vocabulary,
        order=len(orders),
        pieces=np.concatenate([one.keys & last for one in orders]).astype(np.uint16),
        children=np.concatenate(children).astype(np.uint16),
        log_probs=np.log(np.concatenate([one.probability for one in orders])).astype(np.float32),
        backoffs=np.concatenate(backoffs).astype(np.float32),
    )


def _all_pieces(unigrams: _Order, vocabulary: int) -> _Order:
    """Every piece has a probability, also one that the text never used."""
    keys = np.arange(vocabulary, dtype=np.uint64)
    probability = np.full(vocabulary, unigrams.probability.min() / 2)
    probability[unigrams.keys.astype(int)] = unigrams.probability
    return _Order(keys, probability / probability.sum(), np.full(vocabulary, 1 / vocabulary))


def without(sentences: Iterable[str], references: Iterable[str]) -> Iterator[str]:
    """Sentences that share no run of ``RUN`` words with a reference, nor are one."""
    held = [text.split() for text in references]
    whole = {" ".join(words) for words in held}
    runs = {tuple(w[i : i + RUN]) for w in held for i in range(len(w) - RUN + 1)}
    for sentence in sentences:
        words = sentence.split()
        shared = any(tuple(words[i : i + RUN]) in runs for i in range(len(words) - RUN + 1))
        if not shared and (sentence not in whole or len(words) < 3):
            yield sentence


def spoken_lists(count: int, seed: int = 0) -> Iterator[str]:
    """Digits and command words, alone and in lists of up to eight."""
    random = np.random.default_rng(seed)
    words = COMMANDS.split()
    for _ in range(count):
        kind = words[:10] if random.random() < 0.5 else words
        yield " ".join(random.choice(kind, size=int(random.integers(1, 9))))


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m audiomamba.text.fit_ngram")
    parser.add_argument("pool", type=Path, help="tar of *.txt.xz, a sentence a line")
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--order", type=int, default=6, help="pieces (default: %(default)s)")
    parser.add_argument("--megabytes", type=float, default=8.0, help="size of the file, at most")
    parser.add_argument("--thin", nargs="*", default=[], metavar="FILE=N", help="as in text.fit")
    parser.add_argument("--extra", type=Path, nargs="*", default=[], help="manifests with texts")
    parser.add_argument("--exclude", type=Path, nargs="*", default=[], help="manifests to shun")
    parser.add_argument("--commands", action="store_true", help="add digits and command words")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    vocabulary = Vocabulary.load(options.tokenizer)
    thin = {name: int(step) for name, _, step in (item.partition("=") for item in options.thin)}
    shunned = [text for manifest in options.exclude for text in record_sentences(manifest)]

    def sentences() -> Iterator[list[int]]:
        for text in without(pool_sentences(options.pool, thin), shunned):
            yield vocabulary.encode(text)
        for manifest in options.extra:
            yield from map(vocabulary.encode, record_sentences(manifest))
        if options.commands:
            yield from map(vocabulary.encode, spoken_lists(50_000))

    nodes = int(options.megabytes * 1e6 / _BYTES_A_NODE)
    model = fit(sentences(), len(vocabulary), order=options.order, nodes=nodes)
    size = model.save(options.out)
    summary = {"nodes": len(model.trie.pieces), "order": model.trie.order, "bytes": size}
    print(json.dumps(summary), file=sys.stderr)


if __name__ == "__main__":
    main()
