"""Time decoding beside a Transformer: ``python -m audiomamba.nn.decoding [--json] [--parts]``.

Two language models of random weights and about one size, in bfloat16, write 64 tokens after a
prompt: stacks of ours, by the steps that serving takes, and a Transformer in plain PyTorch with a
preallocated cache of keys and values (rotary positions, as many heads of keys as of queries, GELU,
the fastest of PyTorch's attentions for the call). Both have an embedding that is also the head, and
take the likeliest token. On a GPU a token is one replayed CUDA graph.

The prompt is not read: states and caches have random content, which takes no other time. A cache
holds exactly the prompt, and a new token replaces its oldest, so its length stays the same; without
that it would grow by 3 % while 64 tokens follow 2,048. The states of ours do not depend on the
prompt, so one time stands for all.

Ratios are given for equal batches and, apart from them, for the largest batches that fit.

``--parts`` adds Mamba part by part, without a few kernels a layer (``Stack.fused_step``), at the
batches that take them.
"""

import argparse
import gc
import json
import math
import platform
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from audiomamba.kernels.layer_step import most_rows
from audiomamba.nn.config import LayerConfig, StackConfig
from audiomamba.nn.stack import Stack
from audiomamba.nn.state import flatten, map_state
from audiomamba.nn.stepping import narrowed

__all__ = ["Measured", "Sizes", "main", "measure", "ratios"]

HEAD_WIDTH: Final = 64
MEMORY_SHARE: Final = 0.9  # of what is free, for rows; the rest is for what the graph needs
NEXT_TRY: Final = 0.85  # of a batch for which memory did not suffice
TRIES: Final = 6
MOST_ROWS: Final = 65_535  # programs along a grid's second axis
MOST_VALUES: Final = 2**31 - 1  # of one cache, as some attentions count in 32 bits
ATTENTIONS: Final = (
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
)
WARM, REPEAT_BELOW_S = 3, 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Of both models and of what is measured."""

    width: int = 768
    layers: int = 24  # of ours; a Transformer's layer has about the size of two
    states: int = 16
    states_ssd: int = 128
    vocabulary: int = 50_280
    batches: tuple[int, ...] = (1, 64, 256)
    prompts: tuple[int, ...] = (2048, 32_768)
    tokens: int = 64
    memory_bytes: int | None = None  # for the largest batch; what is free on the GPU if None


TINY: Final = Sizes(
    width=128, layers=2, states=4, states_ssd=8, vocabulary=64, batches=(1, 2), prompts=(16, 64),
    tokens=3, memory_bytes=2_000_000,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A model, a batch and a prompt; no time where it does not fit."""

    model: str
    parameters: int
    prompt: int | None  # None: any
    batch: int
    largest: bool  # the largest batch that fits
    row_bytes: int  # a row's state or cache
    milliseconds: float | None = None  # a token of all rows
    tokens_per_s: float | None = None  # of all rows together
    attention: str | None = None
    reason: str | None = None  # why there is no time, or why not for a larger batch
    machine: str = ""


class Model(Protocol):
    """Writes one token of every row at a time."""

    name: str
    attention: str | None

    def row_bytes(self, prompt: int) -> int: ...
    def start(self, batch: int, prompt: int) -> None: ...
    def step(self, tokens: Tensor) -> Tensor: ...
    def stop(self) -> None: ...


class Ours(nn.Module):
    """An embedding, a stack, and the embedding again."""

    attention = None

    def __init__(self, dynamics: str, sizes: Sizes, *, fused: bool = True) -> None:
        super().__init__()
        self.name = {"selective": "mamba", "ssd": "mamba-2"}[dynamics] + ("" if fused else "-parts")
        states = sizes.states if dynamics == "selective" else sizes.states_ssd
        layer = LayerConfig(
            dynamics=dynamics,  # type: ignore[arg-type]
            count=sizes.layers,
            state_size=states,
            ffn=0.0,
        )
        self.embedding = nn.Embedding(sizes.vocabulary, sizes.width)
        self.stack = Stack(StackConfig(width=sizes.width, layers=[layer]), fused_step=fused)
        self.pool: Any = None

    def row_bytes(self, prompt: int) -> int:
        return sum(x.nbytes for _, x in flatten(self.stack.init_state(1)))

    def start(self, batch: int, prompt: int) -> None:
        device = self.embedding.weight.device
        self.pool = self.stack.init_state(batch + 1, device=device)
        map_state(lambda x: x.normal_(std=0.1), self.pool)
        self.slots = torch.arange(1, batch + 1, device=device)

    def step(self, tokens: Tensor) -> Tensor:
        y = self.stack.step_(self.embedding(tokens)[:, None], self.pool, self.slots)
        return F.linear(y[:, 0], self.embedding.weight).argmax(-1)

    def stop(self) -> None:
        self.pool = None


class Transformer(nn.Module):
    """Attention and a feed-forward part of four times the width, in PyTorch's own operations."""

    name = "transformer"

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        width = sizes.width
        self.width, self.heads = width, width // HEAD_WIDTH
        self.layers = max(1, sizes.layers // 2)
        self.embedding = nn.Embedding(sizes.vocabulary, width)
        self.norms = nn.ParameterList(torch.ones(width) for _ in range(2 * self.layers + 1))

        def products(inputs: int, outputs: int) -> nn.ModuleList:
            made = (nn.Linear(inputs, outputs, bias=False) for _ in range(self.layers))
            return nn.ModuleList(made)

        self.qkv, self.out = products(width, 3 * width), products(width, width)
        self.up, self.down = products(width, 4 * width), products(4 * width, width)
        self.caches: list[list[tuple[Tensor, Tensor]]] = []  # a layer's, by parts of the rows
        self.backend: SDPBackend | None = None

    @property
    def attention(self) -> str | None:
        return None if self.backend is None else self.backend.name.split("_")[0].lower()

    def row_bytes(self, prompt: int) -> int:
        return self.layers * 2 * prompt * self.width * self.embedding.weight.element_size()

    def start(self, batch: int, prompt: int) -> None:
        like = self.embedding.weight
        most = max(1, MOST_VALUES // (prompt * self.width))
        self.parts = [min(most, batch - row) for row in range(0, batch, most)]

        def cache(rows: int) -> Tensor:
            return like.new_empty(rows, self.heads, prompt, HEAD_WIDTH).normal_()

        self.caches = [
            [(cache(rows), cache(rows)) for rows in self.parts] for _ in range(self.layers)
        ]
        self.prompt = prompt
        self.position = torch.full((1,), prompt, device=like.device)
        exponent = torch.arange(0, HEAD_WIDTH, 2, device=like.device) / HEAD_WIDTH
        self.speeds = 10_000.0 ** -torch.cat((exponent, exponent))
        self.backend = _fastest(*self.caches[0][0]) if like.is_cuda else None

    def step(self, tokens: Tensor) -> Tensor:
        rows = tokens.shape[0]
        x = self.embedding(tokens)  # (B, D)
        angle = self.position * self.speeds
        cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
        place = self.position % self.prompt
        for i, parts in enumerate(self.caches):
            y = self._norm(x, 2 * i)
            qkv = self.qkv[i](y).view(rows, 3 * self.heads, HEAD_WIDTH)
            qk, v = qkv[:, : 2 * self.heads], qkv[:, 2 * self.heads :]
            first, second = qk.chunk(2, -1)
            qk = qk * cos + torch.cat((-second, first), -1) * sin
            q, k = (part[:, :, None] for part in qk.chunk(2, 1))  # (B, H, 1, 64)
            split = zip(*(t.split(self.parts) for t in (q, k, v[:, :, None])), strict=True)
            seen = []
            for (keys, values), (q_, k_, v_) in zip(parts, split, strict=True):
                keys.index_copy_(2, place, k_)
                values.index_copy_(2, place, v_)
                seen.append(self._attend(q_, keys, values))
            attended = seen[0] if len(seen) == 1 else torch.cat(seen)
            x = x + self.out[i](attended.reshape(rows, self.width))
            x = x + self.down[i](F.gelu(self.up[i](self._norm(x, 2 * i + 1))))
        self.position += 1
        return F.linear(self._norm(x, -1), self.embedding.weight).argmax(-1)

    def stop(self) -> None:
        self.caches = []

    def _norm(self, x: Tensor, which: int) -> Tensor:
        return F.rms_norm(x, (self.width,), self.norms[which])

    def _attend(self, q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        if self.backend is None:
            return F.scaled_dot_product_attention(q, keys, values)
        with sdpa_kernel(self.backend):
            return F.scaled_dot_product_attention(q, keys, values)


def _fastest(keys: Tensor, values: Tensor) -> SDPBackend:
    """Of PyTorch's attentions, for one query of every row of a cache."""
    query = keys[:, :, :1].clone()
    times: dict[SDPBackend, float] = {SDPBackend.MATH: math.inf}  # makes copies, but runs anywhere

    def call() -> Tensor:
        return F.scaled_dot_product_attention(query, keys, values)

    for backend in ATTENTIONS:
        try:
            with sdpa_kernel(backend), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # they say why one is not for this call
                call()
                times[backend] = min(_seconds(call, 1, keys.device) for _ in range(3))
        except RuntimeError:  # not for this shape or device
            continue
    return min(times, key=lambda backend: times[backend])


@torch.inference_mode()
def measure(
    sizes: Sizes,
    device: torch.device,
    dtype: torch.dtype,
    out_of_time: Callable[[], bool] = lambda: False,
    *,
    parts: bool = False,
) -> Iterator[Measured]:
    """Measure all models at all batches and prompts, the largest that fit last.

    ``parts`` adds Mamba without a few kernels a layer.
    """
    makers: tuple[Callable[[], Any], ...] = (
        lambda: Ours("selective", sizes),
        lambda: Ours("ssd", sizes),
        lambda: Transformer(sizes),
        *((lambda: Ours("selective", sizes, fused=False),) if parts else ()),
    )
    models: list[Any] = []
    for make in makers:
        torch.manual_seed(0)
        with device:
            model = make().eval().requires_grad_(False)
        # PyTorch's fused norm wants its weights as narrow as what it norms; ours wants them wide.
        is_theirs = isinstance(model, Transformer)
        models.append(model.to(dtype) if is_theirs else narrowed(model, dtype))
    for largest in (False, True):
        for model in models:
            for prompt in sizes.prompts if model.name == "transformer" else (None,):
                most = _most_rows(model, prompt or 0, sizes, device, dtype)
                for batch in (most,) if largest else sizes.batches:
                    if model.name == "mamba-parts" and batch > most_rows(device, dtype):
                        continue  # the same as mamba
                    if out_of_time():
                        return
                    yield _fitting(model, prompt, batch, most, largest, sizes, device)


def _most_rows(
    model: Model, prompt: int, sizes: Sizes, device: torch.device, dtype: torch.dtype
) -> int:
    """By arithmetic: states or caches, and what a step makes beside them."""
    _forget(device)
    memory = sizes.memory_bytes
    if memory is None:
        memory = int(MEMORY_SHARE * torch.cuda.mem_get_info(device)[0])
    made = (2 * sizes.vocabulary + 64 * sizes.width) * dtype.itemsize
    return min(MOST_ROWS, memory // (model.row_bytes(prompt) + made))


def _fitting(
    model: Any,
    prompt: int | None,
    batch: int,
    most: int,
    largest: bool,
    sizes: Sizes,
    device: torch.device,
) -> Measured:
    """Time a batch; the largest is tried downwards where memory does not suffice."""
    parameters = sum(x.numel() for x in model.parameters())
    row_bytes = model.row_bytes(prompt or 0)
    seconds: float | None = None
    reason = None if batch <= most else f"memory for {most} rows"
    for tried in [int(batch * NEXT_TRY**i) for i in range(TRIES if largest else 1)]:
        if not 0 < tried <= most:
            break
        try:
            batch, seconds = tried, _token(model, tried, prompt or 0, sizes.tokens, device)
        except RuntimeError as failure:  # lack of memory has many names
            reason = f"{tried} rows: {str(failure).strip().partition(chr(10))[0][:160]}"
        finally:
            model.stop()
            _forget(device)
        if seconds is not None:
            break
    return Measured(
        model=model.name,
        parameters=parameters,
        prompt=prompt,
        batch=batch,
        largest=largest,
        row_bytes=row_bytes,
        milliseconds=None if seconds is None else 1e3 * seconds,
        tokens_per_s=None if seconds is None else batch / seconds,
        attention=model.attention if seconds is not None else None,
        reason=reason,
        machine=_machine(device),
    )


def _token(model: Model, batch: int, prompt: int, tokens: int, device: torch.device) -> float:
    """Seconds a token of all rows, over a run of ``tokens``."""
    model.start(batch, prompt)
    ids = torch.zeros(batch, dtype=torch.int64, device=device)

    def step() -> None:
        ids.copy_(model.step(ids))

    run = step if device.type == "cpu" else _captured(step)
    for _ in range(WARM):
        run()
    times = [_seconds(run, tokens, device)]
    if times[0] < REPEAT_BELOW_S:
        times += [_seconds(run, tokens, device) for _ in range(2)]
    return min(times) / tokens


def _captured(step: Callable[[], None]) -> Callable[[], None]:
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):  # what a first call sets up must not be captured
        for _ in range(2):
            step()
    torch.cuda.current_stream().wait_stream(aside)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    replay: Callable[[], None] = graph.replay
    return replay


def _seconds(call: Callable[[], object], times: int, device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    for _ in range(times):
        call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def _forget(device: torch.device) -> None:
    """Give back what a run held, so that the next finds all memory free."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()


def ratios(found: list[Measured]) -> Iterator[dict[str, Any]]:
    """Tokens a second of ours over the Transformer's, at each of its prompts and batches."""
    for theirs in found:
        if theirs.model != "transformer" or theirs.tokens_per_s is None:
            continue
        for ours in found:
            same = ours.largest == theirs.largest and (ours.largest or ours.batch == theirs.batch)
            if ours.model != "transformer" and same and ours.tokens_per_s is not None:
                yield {
                    "ratio": round(ours.tokens_per_s / theirs.tokens_per_s, 2),
                    "model": ours.model,
                    "prompt": theirs.prompt,
                    "at": "largest batches" if ours.largest else "equal batches",
                    "batch": ours.batch,
                    "batch_transformer": theirs.batch,
                }


def _machine(device: torch.device) -> str:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return f"{name}, torch {torch.__version__}"


def main() -> None:
    """Measure as the command line asks."""
    parser = argparse.ArgumentParser(prog="python -m audiomamba.nn.decoding")
    parser.add_argument("--json", action="store_true", help="print JSON lines")
    parser.add_argument("--tiny", action="store_true", help="models that a test has time for")
    parser.add_argument("--parts", action="store_true", help="Mamba also part by part")
    parser.add_argument("--device", default="cuda", help="torch's name of it (%(default)s)")
    parser.add_argument("--budget-s", type=float, default=85, help="seconds (%(default)s)")
    given = parser.parse_args()
    device, began = torch.device(given.device), time.monotonic()
    budget: float = given.budget_s
    if device.type == "cpu" and not given.tiny:
        parser.error("on a CPU there is --tiny alone")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    found: list[Measured] = []

    def late() -> bool:
        return time.monotonic() - began > budget

    sizes = TINY if given.tiny else Sizes()
    for measured in measure(sizes, device, dtype, late, parts=given.parts):
        found.append(measured)
        print(json.dumps(asdict(measured)) if given.json else _line(measured), flush=True)
    for ratio in ratios(found):
        print(json.dumps(ratio) if given.json else _ratio_line(ratio))
    if late():
        print(json.dumps({"stopped": "the time is up"}) if given.json else "the time is up")


def _line(measured: Measured) -> str:
    prompt = "any" if measured.prompt is None else f"{measured.prompt}"
    what = f"{measured.model:12} prompt {prompt:>6}, batch {measured.batch:6}"
    what += " (largest)" if measured.largest else " " * 10
    if measured.milliseconds is None:
        return f"{what} {measured.row_bytes / 1e6:.1f} MB a row: {measured.reason}"
    return (
        f"{what} {measured.milliseconds:9.3f} ms a token {measured.tokens_per_s:12,.0f} tokens/s, "
        f"{measured.row_bytes / 1e6:.1f} MB a row{_attention(measured)}"
    )


def _attention(measured: Measured) -> str:
    return "" if measured.attention is None else f", {measured.attention} attention"


def _ratio_line(ratio: dict[str, Any]) -> str:
    return (
        f"{ratio['model']:8} over the transformer, prompt {ratio['prompt']:6}, {ratio['at']} "
        f"({ratio['batch']}, {ratio['batch_transformer']}): {ratio['ratio']:.2f}"
    )


if __name__ == "__main__":
    main()
