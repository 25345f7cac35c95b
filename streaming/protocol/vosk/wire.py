"""Results as vosk-server writes them.

Two-space indent, `` : `` between key and value, six decimals, keys in alphabetical order: some
clients do not parse the JSON but look for substrings of it.
"""

import json
from collections.abc import Sequence
from typing import Any

from audiomamba.streaming.protocol.events import Final, Word

__all__ = ["alternatives", "dump", "final", "partial"]


def partial(text: str) -> str:
    """The hypothesis so far; empty in silence."""
    return dump({"partial": text})


def final(finals: Sequence[Final], *, words: bool) -> str:
    """Everything in ``finals`` as one result; an empty one where there is none."""
    result: dict[str, Any] = {"text": _text(finals)}
    spoken = [word for one in finals for word in one.words]
    if words and spoken:
        result["result"] = [_timed(word) | {"conf": word.confidence} for word in spoken]
    return dump(result)


def alternatives(finals: Sequence[Final], *, words: bool) -> str:
    """The same in the form for clients that asked for alternatives; there is always one.

    Its confidence is unbounded there, like a log-likelihood; we give the sum over the words of
    their confidence, and the form's own 1.0 for silence.
    """
    spoken = [word for one in finals for word in one.words]
    confidence = sum(word.confidence for word in spoken) if spoken else 1.0
    best: dict[str, Any] = {"confidence": float(confidence), "text": _text(finals)}
    if words and spoken:
        best["result"] = [_timed(word) for word in spoken]
    return dump({"alternatives": [best]})


def dump(value: Any, indent: int = 0) -> str:
    """JSON in the layout described above."""
    inner = " " * (indent + 2)
    if isinstance(value, dict):
        items = [f'{inner}"{k}" : {dump(value[k], indent + 2)}' for k in sorted(value)]
        return "{\n" + ",\n".join(items) + "\n" + " " * indent + "}"
    if isinstance(value, list):
        items = [dump(item, indent + 2).lstrip() for item in value]
        return "[" + (",\n" + inner).join(items) + "]"
    return f"{value:.6f}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


def _text(finals: Sequence[Final]) -> str:
    return " ".join(one.text.strip() for one in finals if one.text.strip())


def _timed(word: Word) -> dict[str, Any]:
    return {"end": word.end, "start": word.start, "word": word.word}
