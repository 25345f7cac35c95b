"""Train a small model on a problem, and measure it at any length."""

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from audiomamba.models.language import LanguageModel, LanguageModelConfig
from audiomamba.nn import Dynamics, LayerConfig, StackConfig, flatten, map_state
from audiomamba.training.tasks.problems import VOCABULARY, Problem

__all__ = ["FitConfig", "accuracy", "accuracy_by_steps", "fit", "small_model"]


@dataclass(kw_only=True, slots=True)
class FitConfig:
    """How a small model is trained."""

    steps: int = 20_000
    batch: int = 64  # at the final length; shorter sequences come in proportion more
    length: int = 256  # of the training sequences, at the end
    first_length: int = 256  # of the training sequences, at the start; doubles on the way
    advance: float = 0.0  # accuracy at which the length doubles; 0 = at equal intervals
    learning_rate: float = 1e-3
    decay: bool = True  # cosine to zero, else constant
    seed: int = 0
    enough: float = 1.0  # stop early at this accuracy on fresh training sequences; inf = never


def small_model(
    dynamics: Dynamics,
    *,
    width: int = 64,
    layers: int = 2,
    dt_min: float = 1e-3,
    dt_max: float = 1e-1,
) -> LanguageModel:
    """The paper's two layers of width 64, about 74 thousand parameters.

    Step sizes start between ``dt_min`` and ``dt_max``: what a layer forgets in a frame.
    """
    layer = LayerConfig(
        dynamics=dynamics, count=layers, ffn=0.0, state_size=16, dt_min=dt_min, dt_max=dt_max
    )
    return LanguageModel(
        LanguageModelConfig(
            vocabulary=VOCABULARY,
            tie_embeddings=False,
            stack=StackConfig(width=width, layers=[layer]),
        )
    )


def fit(model: LanguageModel, problem: Problem, config: FitConfig) -> float:
    """Train ``model`` where it lies; returns its last accuracy on fresh training sequences."""
    device = next(model.parameters()).device
    generator = torch.Generator(device).manual_seed(config.seed)
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=torch.tensor(config.learning_rate),  # a tensor: a captured graph reads it anew
        weight_decay=0.0,
        capturable=device.type == "cuda",
        foreach=device.type == "cuda",
    )
    started, seen = time.perf_counter(), 0.0
    step_of: dict[int, Callable[[Tensor, Tensor], Tensor]] = {}
    length = config.first_length
    for step in range(config.steps):
        if not config.advance:
            length = _length_at(step, config)
        elif step and step % 100 == 0 and length < config.length:
            now = accuracy(model, problem, length, batch=16_384 // length or 1, seed=step)
            length *= 2 if now > config.advance else 1
        rows = config.batch * config.length // length
        if length not in step_of:
            make = _graphed_step if device.type == "cuda" else _eager_step
            step_of[length] = make(model, optimizer, *problem.draw(rows, length, generator))
        if config.decay:
            rate = 0.5 * (1 + math.cos(math.pi * step / config.steps))
            for group in optimizer.param_groups:
                group["lr"].fill_(config.learning_rate * min(rate, (step + 1) / 200))
        loss = step_of[length](*problem.draw(rows, length, generator))
        if step % 500 == 499 or step == config.steps - 1:
            seen = accuracy(model, problem, length, batch=256 * 256 // length or 1, seed=step)
            took = time.perf_counter() - started
            print(
                f"{problem.name}: step {step + 1}, length {length}, loss {float(loss):.4f}, "
                f"accuracy {100 * seen:.1f} %, {took:.0f} s",
                file=sys.stderr,
                flush=True,
            )
            if seen >= config.enough and length == config.length:
                break
    return seen


@torch.no_grad()
def accuracy(
    model: LanguageModel, problem: Problem, length: int, *, batch: int, seed: int
) -> float:
    """Share of right answers on fresh sequences, by the parallel form."""
    device = next(model.parameters()).device
    tokens, answers = problem.draw(batch, length, torch.Generator(device).manual_seed(seed + 1))
    logits, _ = model(tokens)
    return float((_at_answers(logits, answers).argmax(-1) == answers).float().mean())


@torch.no_grad()
def accuracy_by_steps(
    model: LanguageModel, problem: Problem, length: int, *, batch: int, seed: int
) -> tuple[float, int]:
    """Share of right answers by the recurrent step, one token at a time, and the state's bytes.

    Memory does not depend on ``length``: the state is all that is kept. On a GPU a block of steps
    is captured once and replayed.
    """
    device = next(model.parameters()).device
    tokens, answers = problem.draw(batch, length, torch.Generator(device).manual_seed(seed + 1))
    K = answers.shape[1]
    pool = model.init_state(batch + 1, device=device)
    slots = torch.arange(1, batch + 1, device=device)
    block = math.gcd(length, 256)
    if device.type == "cuda":
        buffer = tokens[:, :block].clone()
        run = _graphed_block(model, buffer, pool, slots)
    last: list[Tensor] = []
    for start in range(0, length, block):
        if device.type == "cuda":
            buffer.copy_(tokens[:, start : start + block])
            logits = run()
        else:
            logits = _step_through(model, tokens[:, start : start + block], pool, slots)
        if start + block > length - K:
            last.append(logits.clone())
    right = torch.cat(last, 1)[:, -K:].argmax(-1) == answers
    return float(right.float().mean()), sum(t.nbytes for _, t in flatten(pool))


def _step_through(model: LanguageModel, tokens: Tensor, pool: object, slots: Tensor) -> Tensor:
    frames = [model.step_(tokens[:, t : t + 1], pool, slots) for t in range(tokens.shape[1])]  # type: ignore[arg-type]
    return torch.cat(frames, 1)


def _graphed_block(
    model: LanguageModel, buffer: Tensor, pool: object, slots: Tensor
) -> Callable[[], Tensor]:
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        _step_through(model, buffer, pool, slots)
    torch.cuda.current_stream().wait_stream(side)
    map_state(lambda t: t.zero_(), pool)  # the warm-up advanced it
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        logits = _step_through(model, buffer, pool, slots)

    def run() -> Tensor:
        graph.replay()
        return logits

    return run


def _at_answers(logits: Tensor, answers: Tensor) -> Tensor:
    return logits[:, -answers.shape[1] :]


def _length_at(step: int, config: FitConfig) -> int:
    """Double the length at equal intervals over the first half of the steps."""
    doublings = int(math.log2(config.length / config.first_length))
    if not doublings:
        return config.length
    stage = min(doublings, int(step / (config.steps / 2) * (doublings + 1)))
    return config.first_length << stage


def _eager_step(
    model: LanguageModel, optimizer: torch.optim.Optimizer, tokens: Tensor, answers: Tensor
) -> Callable[[Tensor, Tensor], Tensor]:
    def step(tokens: Tensor, answers: Tensor) -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        logits, _ = model(tokens)
        loss = F.cross_entropy(_at_answers(logits, answers).transpose(1, 2), answers)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.detach()

    return step


def _graphed_step(
    model: LanguageModel, optimizer: torch.optim.Optimizer, tokens: Tensor, answers: Tensor
) -> Callable[[Tensor, Tensor], Tensor]:
    """Capture one whole training step: at this size the launches would be most of the time."""
    step = _eager_step(model, optimizer, tokens, answers)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step(tokens, answers)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    optimizer.zero_grad(set_to_none=True)
    with torch.cuda.graph(graph):
        loss = step(tokens, answers)

    def replay(new_tokens: Tensor, new_answers: Tensor) -> Tensor:
        tokens.copy_(new_tokens)
        answers.copy_(new_answers)
        graph.replay()
        return loss

    return replay
