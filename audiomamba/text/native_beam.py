"""The beam search on the native engine, and which search a stream gets."""

import ctypes
from typing import Any

import numpy as np

from audiomamba.errors import StateError
from audiomamba.kernels import native
from audiomamba.text.beam import BeamConfig, BeamSearch, Floats, Heard, PieceLanguage, Search
from audiomamba.text.ngram import NgramModel

__all__ = ["NativeSearch", "make_search"]

ROOM = 64  # pieces of a hypothesis that is read; more are read at a second try


class NativeSearch:
    """A :class:`~audiomamba.text.beam.Search` like ``BeamSearch``, and to the bit the same.

    Args:
        model: Scores pieces; its columns are read where they are.
        starts: ``(V,)`` float64, 1 for pieces that begin a word.
        config: Widths and weights.
        language: Scores them too; it must run on the native engine.

    Raises:
        BackendError: the native engine was not built.
        StateError: by ``load``, of a state that no search was in.
    """

    def __init__(
        self,
        model: NgramModel,
        starts: Floats,
        config: BeamConfig,
        language: PieceLanguage | None = None,
    ) -> None:
        self._library = native.library()
        self._model, self._language = model, language  # kept: their memory is read
        self._vocabulary = model.vocabulary
        widths = native.BeamWidths(
            config.weight,
            config.neural_weight,
            config.piece_margin,
            config.margin,
            config.beam,
            config.candidates,
        )
        bonus = np.ascontiguousarray(config.bonus(starts), np.float64)
        self._beam = self._library.am_beam_new(
            ctypes.byref(model.columns),
            language.native if language is not None else None,
            ctypes.byref(widths),
            bonus.ctypes.data,
        )

    def __del__(self) -> None:
        if getattr(self, "_beam", None):
            self._library.am_beam_free(self._beam)

    @property
    def empty(self) -> bool:
        return bool(self._library.am_beam_empty(self._beam))

    @property
    def last_heard(self) -> int:
        return int(self._library.am_beam_last_heard(self._beam))

    @property
    def shared(self) -> int:
        return int(self._library.am_beam_shared(self._beam))

    def path(self) -> list[Heard]:
        room = ROOM
        while True:
            path = (native.Heard * room)()
            count = self._library.am_beam_path(self._beam, path, room)
            if count <= room:
                return [_heard(node) for node in path[:count]]
            room = count

    def restart(self) -> None:
        self._library.am_beam_restart(self._beam)

    def rest(self) -> None:
        self._library.am_beam_rest(self._beam)

    def step(self, log_probs: Floats, frame: int) -> None:
        log_probs = np.ascontiguousarray(log_probs, np.float64)
        assert log_probs.shape == (self._vocabulary,)  # it is read by address
        self._library.am_beam_step(self._beam, log_probs.ctypes.data, frame)

    def keep_only(self, depth: int) -> None:
        self._library.am_beam_keep_only(self._beam, depth)

    def settle(self, depth: int) -> None:
        self._library.am_beam_settle(self._beam, depth)

    def state(self) -> dict[str, Any]:
        room, count, tip_count = 0, 1, ctypes.c_int(0)
        while count > room or tip_count.value > room:
            room = max(count, tip_count.value)
            nodes, parents = (native.Heard * room)(), (ctypes.c_int * room)()
            tips = (native.Hypothesis * room)()
            count = self._library.am_beam_save(
                self._beam, nodes, parents, room, tips, ctypes.byref(tip_count)
            )
        heard = [_heard(node) for node in nodes[:count]]
        hypotheses = tips[: tip_count.value]
        return {
            "nodes": [
                [parent, node.piece, node.first, node.last, node.score]
                for parent, node in zip(parents[:count], heard, strict=True)
            ],
            "tips": [tip.node for tip in hypotheses],
            "contexts": [tip.context for tip in hypotheses],
            "blank": [tip.blank for tip in hypotheses],
            "piece": [tip.piece for tip in hypotheses],
            "fused": [tip.fused for tip in hypotheses],
            "said": self._said(),
        }

    def load(self, state: dict[str, Any]) -> None:
        count, tip_count = len(state["nodes"]), len(state["tips"])
        nodes, parents = (native.Heard * count)(), (ctypes.c_int * count)()
        for i, (parent, piece, first, last, score) in enumerate(state["nodes"]):
            if not -1 <= parent < i or (parent < 0) != (i == 0) or not self._knows(piece):
                raise StateError(f"search: node {i} of the state is none")
            parents[i] = int(parent)
            nodes[i] = native.Heard(int(piece), int(first), int(last), 0, float(score))
        tips = (native.Hypothesis * tip_count)()
        keys = ("tips", "contexts", "blank", "piece", "fused")
        for i, (node, context, *scores) in enumerate(
            zip(*(state[key] for key in keys), strict=True)
        ):
            if not 0 <= node < count or not 0 <= context <= self._model.columns.nodes:
                raise StateError(f"search: hypothesis {i} of the state is none")
            tips[i] = native.Hypothesis(int(node), int(context), *map(float, scores))
        if not tip_count:
            raise StateError("search: the state has no hypothesis")
        if not all(map(self._knows, state["said"])):
            raise StateError("search: what the state has said is none of the pieces")
        said = (ctypes.c_int * len(state["said"]))(*map(int, state["said"]))
        self._library.am_beam_load(
            self._beam, nodes, parents, count, tips, tip_count, said, len(said)
        )

    def _said(self) -> list[int]:
        room = self._library.am_beam_said(self._beam, None, 0)
        said = (ctypes.c_int * room)()
        self._library.am_beam_said(self._beam, said, room)
        return list(said)

    def _knows(self, piece: int) -> bool:
        return 0 <= piece < self._vocabulary


def make_search(
    model: NgramModel, starts: Floats, config: BeamConfig, language: PieceLanguage | None = None
) -> Search:
    """The search of one stream; in Python, many times slower, where the native engine is not."""
    elsewhere = language is not None and language.native is None
    kind = BeamSearch if elsewhere or native.why_not() is not None else NativeSearch
    return kind(model, starts, config, language)


def _heard(node: native.Heard) -> Heard:
    return Heard(node.piece, node.first, node.last, node.depth, node.score)
