"""The vocabulary that a run is over."""

from pathlib import Path

from audiomamba.errors import ConfigError
from audiomamba.models.registry import DEFAULT, SHIPPED
from audiomamba.text.vocabulary import Vocabulary

__all__ = ["load_tokenizer"]


def load_tokenizer(path: str, pieces: int) -> tuple[Path, Vocabulary]:
    """Load a sentencepiece model; without a ``path`` that of the transcriber that ships.

    Args:
        path: ``train.tokenizer``.
        pieces: ``model.vocabulary``.

    Raises:
        ConfigError: it is of another size.
    """
    tokenizer = Path(path or SHIPPED / DEFAULT / "tokenizer.model")
    vocabulary = Vocabulary.load(tokenizer)
    if len(vocabulary) != pieces:
        raise ConfigError(f"model.vocabulary is {pieces}, {tokenizer} has {len(vocabulary)} pieces")
    return tokenizer, vocabulary
