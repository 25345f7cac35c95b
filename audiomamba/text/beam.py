"""CTC prefix beam search with a language model: the numbers of it, a frame at a time.

A hypothesis is a prefix of pieces. Its acoustic score is the log of the sum over all the ways the
frames so far can be read as that prefix, those that end in a blank and those that end in its last
piece apart (Hannun, Maas, Jurafsky and Ng, 2014, algorithm 1). It is ranked by that score, plus
``weight`` times its log-probability among n-grams, plus ``neural_weight`` times that of a neural
language model, where there is one, plus ``word_bonus`` for each word and ``piece_bonus`` for each
piece: models like few of them.

The neural model is a state-space model too: what it knows of a hypothesis is a state of constant
size, which goes on piece by piece and is copied where a hypothesis parts in two. So the whole
utterance ranks the next word, at the cost of one step a new hypothesis.

Frames that are surely blank add the same to every hypothesis, so they are passed over: the cost
follows the speech, not the clock. Prefixes are a tree that is only as deep as the hypotheses still
disagree: :meth:`BeamSearch.settle` cuts off what all of them share. Everything is decided by
frames, never by calls, so that a stream cut otherwise comes to the same words.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from audiomamba.errors import ConfigError
from audiomamba.text.ngram import BOUNDARY, NgramModel
from audiomamba.text.vocabulary import BLANK

__all__ = ["BeamConfig", "BeamSearch", "Heard", "PieceLanguage", "Search"]

Floats = NDArray[np.float64]
Ids = NDArray[np.intp]

NEVER = -1e30
"""Log of zero that stays a number: it can be added to, and written as JSON."""
_CLEAR = float(np.log(0.5))
"""Log-probability from which a piece is said in a frame, not merely possible."""


@dataclass(kw_only=True, frozen=True)
class BeamConfig:
    """Width of the search and the weight of the language model."""

    weight: float = 0.4  # of the log-probabilities of n-grams
    neural_weight: float = 0.0  # of the log-probabilities of a neural model, where there is one
    word_bonus: float = 1.0  # for each word, against the models' liking for few
    piece_bonus: float = 0.0  # for each piece, likewise
    beam: int = 16  # hypotheses kept
    candidates: int = 16  # pieces tried in a frame
    piece_margin: float = 5.0  # nats under the frame's best from which a piece is not tried
    margin: float = 6.0  # nats under the best hypothesis from which an extension is dropped
    blank: float = 0.95  # probability from which a frame is taken for blank

    def __post_init__(self) -> None:
        for name in ("beam", "candidates"):
            if not 1 <= getattr(self, name) <= 1024:
                raise ConfigError(f"beam: {name} must be in 1..1024, got {getattr(self, name)}")
        for name in ("weight", "neural_weight", "piece_margin", "margin"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"beam: {name} must not be negative, got {getattr(self, name)}")
        if not 0 < self.blank <= 1:
            raise ConfigError(f"beam: blank must be in 0..1, got {self.blank}")

    def bonus(self, starts: Floats) -> Floats:
        """Of each piece, ``(V,)``; ``starts (V,)`` is 1 for those that begin a word."""
        return self.word_bonus * starts + self.piece_bonus


class Heard(NamedTuple):
    """A piece of a hypothesis: frames, log-probability in its clearest one, place in the prefix."""

    piece: int
    first: int
    last: int
    depth: int
    score: float


class PieceLanguage(Protocol):
    """A neural language model over the pieces: rows of states, a text each.

    Attributes:
        fingerprint: Tells it from other models.
        native: Address of the model in the native engine; None where it runs elsewhere.
    """

    fingerprint: int
    native: int | None

    def init_state(self, rows: int) -> NDArray[np.float32]:
        """States before the boundary that begins a sentence: ``(rows, floats)``."""

    def next(self, pieces: Ids, states: NDArray[np.float32]) -> NDArray[np.float32]:
        """Log-probabilities ``(rows, V)`` of what follows ``pieces (rows,)``.

        ``states (rows, floats)`` go on in place. A row comes out the same whatever is beside it.
        """


class Search(Protocol):
    """What a decoder asks of the search of one stream. A depth names the best hypothesis' node."""

    @property
    def empty(self) -> bool:
        """Whether no piece was heard since the start, in any hypothesis."""

    @property
    def last_heard(self) -> int:
        """The last frame of the best hypothesis' last piece; -1 where it has none."""

    @property
    def shared(self) -> int:
        """Depth of the last node that all hypotheses have in common."""

    def path(self) -> list[Heard]:
        """The best hypothesis, from what was settled on."""

    def restart(self) -> None:
        """Forget all: an utterance begins."""

    def rest(self) -> None:
        """Take a frame, or many, that are surely blank."""

    def step(self, log_probs: Floats, frame: int) -> None:
        """Take the log-probabilities ``(V,)`` of a frame that may hold a piece."""

    def keep_only(self, depth: int) -> None:
        """Drop the hypotheses that are not as the best one up to that depth."""

    def settle(self, depth: int) -> None:
        """Let go what led to a node that all hypotheses go beyond; paths begin after it."""

    def state(self) -> dict[str, Any]:
        """All of it, of JSON's types."""

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a state."""


class Node:
    """The last piece of a prefix, and where it was heard."""

    __slots__ = ("depth", "first", "last", "parent", "piece", "score")

    def __init__(
        self, parent: "Node | None", piece: int, first: int, last: int, score: float
    ) -> None:
        self.parent = parent
        self.piece = piece
        self.first, self.last = first, last  # frames
        self.score = score  # log-probability in its clearest frame
        self.depth: int = parent.depth + 1 if parent is not None else 0


class BeamSearch:
    """The hypotheses of one stream; rows of equal length, one a hypothesis.

    This is the definition; where the native engine is built, its own runs in its stead
    (``native_beam.py``) and comes to the same bits.

    Args:
        model: Scores pieces.
        starts: ``(V,)`` float64, 1 for pieces that begin a word.
        config: Widths and weights.
        language: Scores them too.
    """

    def __init__(
        self,
        model: NgramModel,
        starts: Floats,
        config: BeamConfig,
        language: PieceLanguage | None = None,
    ) -> None:
        self._model, self._language = model, language
        self._bonus = config.bonus(starts)
        self.config = config
        self.restart()

    def restart(self) -> None:
        self.root = Node(None, BLANK, 0, 0, 0.0)
        self.nodes = [self.root]
        self._set(np.zeros(1), np.full(1, NEVER), np.zeros(1), np.zeros(1, np.intp))
        self._contexts: Ids = np.array([self._model.start], np.intp)
        self._said: list[int] = []  # pieces that led to the root, its own the last
        if self._language is not None:
            self._texts = self._language.init_state(1)
            self._next = self._language.next(np.array([BOUNDARY]), self._texts)

    @property
    def empty(self) -> bool:
        return len(self.nodes) == 1 and self.nodes[0] is self.root

    @property
    def last_heard(self) -> int:
        best = self._best()
        return best.last if best is not self.root else -1

    def path(self) -> list[Heard]:
        path = _path_to(self._best(), self.root)
        return [Heard(n.piece, n.first, n.last, n.depth, n.score) for n in path]

    def hypotheses(self) -> list[tuple[list[int], float]]:
        """Pieces of all hypotheses, from what was settled on, with their ranks; best first."""
        ranks = self._totals() + self._fused
        return [
            ([node.piece for node in _path_to(self.nodes[i], self.root)], float(ranks[i]))
            for i in np.argsort(-ranks, kind="stable").tolist()
        ]

    def _best(self) -> Node:
        """The last piece of the best hypothesis, or the root."""
        return self.nodes[int(np.argmax(self._totals() + self._fused))]

    def rest(self) -> None:
        self._blank = self._totals()
        self._piece = np.full(len(self.nodes), NEVER)

    def step(self, log_probs: Floats, frame: int) -> None:
        tried = self._candidates(log_probs)
        totals = self._totals()
        blank, piece = totals + log_probs[BLANK], self._piece + log_probs[self._last]
        # A piece after itself is a new one only where a blank stood between.
        again = self._last[:, None] == tried
        longer = np.where(again, self._blank[:, None], totals[:, None]) + log_probs[tried]
        self._merge(longer, piece, tried)
        stay = np.logaddexp(blank, piece) + self._fused
        before = longer + self._fused[:, None]
        top = max(float(stay.max()), float(before.max(initial=NEVER)))
        row, column = np.nonzero(before > top - self.config.margin)
        pieces = tried[column]
        scores, contexts = self._model.score(self._contexts[row], pieces)
        scores = self.config.weight * scores
        if self._language is not None:
            scores = scores + self.config.neural_weight * self._next[row, pieces]
        added = scores + self._bonus[pieces]
        ranked = np.concatenate([stay, before[row, column] + added])
        # Stable, so that equals never change places with another cut of the stream.
        order = np.argsort(-ranked, kind="stable")[: self.config.beam]
        kept, new = order[order < len(stay)], order[order >= len(stay)] - len(stay)
        self._mark(log_probs, frame)
        row, column, pieces = row[new], column[new], pieces[new]
        nodes = [
            Node(self.nodes[r], int(p), frame, frame, float(log_probs[p]))
            for r, p in zip(row.tolist(), pieces.tolist(), strict=True)
        ]
        fused = np.concatenate([self._fused[kept], self._fused[row] + added[new]])
        contexts = np.concatenate([self._contexts[kept], contexts[new]])
        last = np.concatenate([self._last[kept], pieces])
        blank = np.concatenate([blank[kept], np.full(len(new), NEVER)])
        piece = np.concatenate([piece[kept], longer[row, column]])
        self._go_on(kept, row, pieces)
        self.nodes = [self.nodes[i] for i in kept.tolist()] + nodes
        shift = float(np.logaddexp(blank, piece).max())  # else it sinks for ever
        self._set(np.maximum(blank - shift, NEVER), np.maximum(piece - shift, NEVER), fused, last)
        self._contexts = contexts

    @property
    def shared(self) -> int:
        a = self.nodes[0]
        for b in self.nodes[1:]:
            while a is not b:
                deeper_a = a.depth >= b.depth
                step = (a if deeper_a else b).parent
                assert step is not None  # they meet at the root at the latest
                a, b = (step, b) if deeper_a else (a, step)
        return a.depth

    def keep_only(self, depth: int) -> None:
        wanted = self._at(self._best(), depth)
        kept = [i for i, tip in enumerate(self.nodes) if self._at(tip, depth) is wanted]
        self.nodes = [self.nodes[i] for i in kept]
        self._contexts = self._contexts[kept]
        if self._language is not None:
            self._texts, self._next = self._texts[kept], self._next[kept]
        self._set(self._blank[kept], self._piece[kept], self._fused[kept], self._last[kept])

    def settle(self, depth: int) -> None:
        root = self._at(self._best(), depth)
        self._said += [node.piece for node in _path_to(root, self.root)]
        self.root = root
        self.root.parent = None

    def state(self) -> dict[str, Any]:
        order = {id(self.root): 0}
        nodes = [[-1, *_fields(self.root)]]
        for tip in self.nodes:
            for node in _path_to(tip, self.root):
                if id(node) not in order:
                    order[id(node)] = len(nodes)
                    nodes.append([order[id(node.parent)], *_fields(node)])
        return {
            "nodes": nodes,
            "tips": [order[id(tip)] for tip in self.nodes],
            "contexts": self._contexts.tolist(),
            "blank": self._blank.tolist(),
            "piece": self._piece.tolist(),
            "fused": self._fused.tolist(),
            "said": list(self._said),
        }

    def load(self, state: dict[str, Any]) -> None:
        nodes: list[Node] = []
        for parent, piece, first, last, score in state["nodes"]:
            above = nodes[parent] if parent >= 0 else None
            nodes.append(Node(above, int(piece), int(first), int(last), float(score)))
        self.root, self.nodes = nodes[0], [nodes[i] for i in state["tips"]]
        self._contexts = np.array(state["contexts"], np.intp)
        blank, piece, fused = (np.array(state[k], float) for k in ("blank", "piece", "fused"))
        self._set(blank, piece, fused, np.array([tip.piece for tip in self.nodes], np.intp))
        self._said = [int(piece) for piece in state["said"]]
        self._read_again()

    def _go_on(self, kept: Ids, row: Ids, pieces: Ids) -> None:
        """Let the language model read on: ``kept`` stay, ``row`` go on with ``pieces``."""
        if self._language is None:
            return
        texts, after = self._texts[row], self._next[:0]
        if len(pieces):
            after = self._language.next(pieces, texts)
        self._texts = np.concatenate([self._texts[kept], texts])
        self._next = np.concatenate([self._next[kept], after])

    def _read_again(self) -> None:
        """Let the language model read all hypotheses from the start of the utterance.

        So its states, the largest part of a search, need not be saved.
        """
        if self._language is None:
            return
        shared = self._language.init_state(1)
        for piece in [BOUNDARY, *self._said]:
            self._next = self._language.next(np.array([piece]), shared)
        texts, after = np.repeat(shared, len(self.nodes), 0), []
        for i, tip in enumerate(self.nodes):
            following = self._next
            for node in _path_to(tip, self.root):
                following = self._language.next(np.array([node.piece]), texts[i : i + 1])
            after.append(following)
        self._texts, self._next = texts, np.concatenate(after)

    def _at(self, node: Node, depth: int) -> Node:
        """The node of that depth on the way to ``node``; nearer the root there is none."""
        while node is not self.root and node.depth > depth:
            assert node.parent is not None
            node = node.parent
        return node

    def _set(self, blank: Floats, piece: Floats, fused: Floats, last: Ids) -> None:
        self._blank, self._piece, self._fused, self._last = blank, piece, fused, last

    def _totals(self) -> Floats:
        totals: Floats = np.logaddexp(self._blank, self._piece)
        return totals

    def _candidates(self, log_probs: Floats) -> Ids:
        """The pieces worth trying in a frame, in order of id."""
        tried = np.flatnonzero(log_probs > log_probs.max() - self.config.piece_margin)
        tried = tried[tried != BLANK]
        most = self.config.candidates
        if len(tried) > most:
            tried = np.sort(tried[np.argsort(-log_probs[tried], kind="stable")[:most]])
        return tried

    def _merge(self, longer: Floats, piece: Floats, tried: Ids) -> None:
        """Where an extension is a prefix that is there already, give it what it has."""
        row_of = {id(node): i for i, node in enumerate(self.nodes)}
        column_of = {p: k for k, p in enumerate(tried.tolist())}
        for j, node in enumerate(self.nodes):
            i = row_of.get(id(node.parent))
            k = column_of.get(node.piece)
            if i is not None and k is not None and node.parent is not None:
                piece[j] = np.logaddexp(piece[j], longer[i, k])
                longer[i, k] = NEVER

    def _mark(self, log_probs: Floats, frame: int) -> None:
        """Note on the last pieces that they are heard in this frame, where they clearly are.

        After a blank it is not they that are heard, but the same piece anew. Where a better
        hypothesis has gone on from a piece, that one knows when it was heard.
        """
        ranks = self._totals() + self._fused
        for i, node in enumerate(self.nodes):
            score = float(log_probs[node.piece])
            over = self._blank[i] > self._piece[i]
            if node is self.root or over or score < _CLEAR:
                continue
            better = np.flatnonzero(ranks > ranks[i]).tolist()
            if any(self._at(self.nodes[j], node.depth) is node for j in better):
                continue
            if node.score < _CLEAR:  # it was a guess until now
                node.first = frame
            node.last, node.score = frame, max(node.score, score)


def _path_to(node: Node, root: Node) -> list[Node]:
    """The nodes below ``root`` that lead to ``node``, which is the last."""
    path = []
    while node is not root:
        path.append(node)
        assert node.parent is not None
        node = node.parent
    return path[::-1]


def _fields(node: Node) -> tuple[int, int, int, float]:
    return node.piece, node.first, node.last, node.score
