"""Decoding is measured of models that are what they are said to be."""

import json
import sys

import pytest
import torch
from torch.nn import functional as F

from audiomamba.nn import decoding
from audiomamba.nn.decoding import HEAD_WIDTH, TINY, Measured, Ours, Sizes, Transformer

HERE = torch.device("cpu")


def test_all_models_are_timed_at_equal_and_at_the_largest_batches() -> None:
    found = list(decoding.measure(TINY, HERE, torch.float32))
    equal = {(m.model, m.prompt, m.batch) for m in found if not m.largest}
    assert equal == {
        *(("mamba", None, b) for b in (1, 2)),
        *(("mamba-2", None, b) for b in (1, 2)),
        *(("transformer", p, b) for p in (16, 64) for b in (1, 2)),
    }
    largest = {(m.model, m.prompt): m.batch for m in found if m.largest}
    assert largest["transformer", 64] < largest["transformer", 16] < largest["mamba", None]
    told = list(decoding.ratios(found))
    assert len(told) == 2 * 2 * 3
    assert {r["batch"] for r in told if r["at"] == "largest batches"} == {
        largest["mamba", None],
        largest["mamba-2", None],
    }


def test_the_parts_are_timed_at_the_batches_that_take_few_kernels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(decoding, "most_rows", lambda device, dtype: 1)
    monkeypatch.setattr(decoding, "_token", lambda *given: 1.0)
    found = list(decoding.measure(TINY, HERE, torch.float32, parts=True))
    assert [m.batch for m in found if m.model == "mamba-parts"] == [1]
    assert {m.model for m in found} == {"mamba", "mamba-2", "transformer", "mamba-parts"}
    assert Ours("selective", TINY).stack.fused_step
    assert not Ours("selective", TINY, fused=False).stack.fused_step


def test_what_does_not_fit_has_no_time_and_no_ratio() -> None:
    sizes = Sizes(
        width=64, layers=1, states=2, states_ssd=2, vocabulary=8, batches=(1, 500), prompts=(2048,),
        tokens=1, memory_bytes=3_000_000,
    )  # fmt: skip
    found = list(decoding.measure(sizes, HERE, torch.float32))
    big = {m.model: m.tokens_per_s for m in found if m.batch == 500 and not m.largest}
    assert big["transformer"] is None
    assert not [r for r in decoding.ratios(found) if r["batch_transformer"] == 500]


def test_the_largest_batch_is_tried_downwards(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def token(model: Ours, batch: int, *rest: object) -> float:
        asked.append(batch)
        if batch > 80:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 1.0

    monkeypatch.setattr(decoding, "_token", token)
    found = decoding._fitting(Ours("selective", TINY), None, 100, 100, True, TINY, HERE)
    assert asked == [100, 85, 72] and found.batch == 72 and found.tokens_per_s == 72
    assert found.reason == "85 rows: CUDA out of memory"


def test_the_models_are_of_about_one_size() -> None:
    with torch.device("meta"):
        models = [Ours("selective", Sizes()), Ours("ssd", Sizes()), Transformer(Sizes())]
    counts = [sum(x.numel() for x in model.parameters()) for model in models]
    assert all(120e6 < count < 135e6 for count in counts)
    assert Transformer(TINY).row_bytes(2048) == 2 * 2048 * 128 * 4


@torch.no_grad()
def test_the_transformer_attends_to_its_whole_cache_and_replaces_the_oldest() -> None:
    torch.manual_seed(0)
    model = Transformer(Sizes(width=64, layers=2, vocabulary=16))
    model.start(2, 5)
    (keys, values) = (x.clone() for x in model.caches[0][0])
    tokens = torch.tensor([3, 7])
    got = model.step(tokens)
    x = model.embedding(tokens)
    q, k, v = model.qkv[0](F.rms_norm(x, (64,))).view(2, 3, HEAD_WIDTH).unbind(1)
    angle = 5 * 10_000.0 ** (-torch.arange(0, 64, 2) / 64)
    turn = torch.polar(torch.ones(32), angle)

    def turned(x: torch.Tensor) -> torch.Tensor:
        y = torch.complex(x[:, :32], x[:, 32:]) * turn
        return torch.cat((y.real, y.imag), -1)

    keys[:, 0, 0], values[:, 0, 0] = turned(k), v
    weights = torch.softmax((keys[:, 0] @ turned(q)[..., None])[..., 0] / 8, -1)
    x = x + model.out[0]((weights[..., None] * values[:, 0]).sum(1))
    x = x + model.down[0](F.gelu(model.up[0](F.rms_norm(x, (64,)))))
    assert torch.equal(got, (F.rms_norm(x, (64,)) @ model.embedding.weight.T).argmax(-1))
    assert int(model.position) == 6
    torch.testing.assert_close(model.caches[0][0][0], keys)


@torch.no_grad()
def test_parts_of_the_rows_give_what_one_cache_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    said = []
    for most in (decoding.MOST_VALUES, 2 * 16 * 128):
        monkeypatch.setattr(decoding, "MOST_VALUES", most)
        torch.manual_seed(0)
        model = Transformer(TINY)
        torch.manual_seed(1)
        model.start(4, 16)
        one = torch.Generator().manual_seed(2)
        for layer in model.caches:
            for which in (0, 1):
                drawn = torch.randn(4, 2, 16, HEAD_WIDTH, generator=one).split(model.parts)
                for part, content in zip(layer, drawn, strict=True):
                    part[which].copy_(content)
        said.append(model.step(torch.arange(4)))
    assert len(model.parts) == 2 and torch.equal(*said)


def test_the_command_prints_a_line_a_measurement(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["decoding", "--tiny", "--device", "cpu", "--json"])
    decoding.main()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sum("ratio" in line for line in lines) == 12
    assert all(line["tokens_per_s"] > 0 for line in lines if "parameters" in line)
    monkeypatch.setattr(sys, "argv", ["decoding", "--tiny", "--device", "cpu"])
    decoding.main()
    assert "over the transformer" in capsys.readouterr().out


def test_a_line_says_what_does_not_fit() -> None:
    measured = Measured(
        model="transformer", parameters=1, prompt=32_768, batch=256, largest=False,
        row_bytes=1_207_959_552, reason="memory for 104 rows",
    )  # fmt: skip
    assert "1208.0 MB a row: memory for 104 rows" in decoding._line(measured)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="gpu: no GPU here")
def test_a_token_is_a_graph_on_a_gpu() -> None:
    found = list(decoding.measure(TINY, torch.device("cuda"), torch.bfloat16))
    assert len(found) == 12
    assert all(m.tokens_per_s for m in found)
