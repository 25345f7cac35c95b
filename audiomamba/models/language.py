"""A plain language model over a stack: tokens in, logits of the next token out."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiomamba.nn import LayerConfig, Stack, StackConfig, StackState

__all__ = ["LanguageModel", "LanguageModelConfig"]


@dataclass(kw_only=True, slots=True)
class LanguageModelConfig:
    """Shape of a language model; the defaults are Mamba's block without feed-forward part."""

    vocabulary: int = 50280
    tie_embeddings: bool = True
    stack: StackConfig = field(
        default_factory=lambda: StackConfig(width=768, layers=[LayerConfig(count=24, ffn=0.0)])
    )


class LanguageModel(nn.Module):
    """Embedding, stack, and a linear head that may share the embedding's weights."""

    def __init__(self, config: LanguageModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.stack.width)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.stack = Stack(config.stack)
        # Tied weights are one parameter under one name, in memory and in files.
        self.head = (
            None
            if config.tie_embeddings
            else nn.Linear(config.stack.width, config.vocabulary, bias=False)
        )

    def init_state(
        self, batch: int, *, device: torch.device | None = None, dtype: torch.dtype = torch.float32
    ) -> StackState:
        """The state before the first token of ``batch`` streams."""
        return self.stack.init_state(batch, device=device, dtype=dtype)

    def forward(
        self,
        tokens: Tensor,
        state: StackState | None = None,
        *,
        resets: Tensor | None = None,
    ) -> tuple[Tensor, StackState]:
        """``tokens (B, T)`` to logits ``(B, T, vocabulary)`` and the state after them.

        ``resets (B, T)`` bool: where a new text starts inside a row; nothing before it is seen.
        """
        y, state = self.stack(self.embedding(tokens), state, resets=resets)
        return self._logits(y), state

    def step_(self, tokens: Tensor, pool: StackState, slots: Tensor) -> Tensor:
        """``tokens (M, T)`` to logits ``(M, T, vocabulary)``; rows ``slots`` advance."""
        return self._logits(self.stack.step_(self.embedding(tokens), pool, slots))

    def _logits(self, y: Tensor) -> Tensor:
        return F.linear(y, (self.embedding if self.head is None else self.head).weight)
