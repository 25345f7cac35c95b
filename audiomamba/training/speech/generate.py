"""Fill a corpus with synthetic speech, for so many seconds or hours.

    python -m audiomamba.training.speech.generate --pack DIR --out CORPUS --seconds 300

The pack is a folder with ``kokoro.safetensors.z``, ``kokoro-voices.npz`` and ``script-*.npz.xz``.
``--start`` passes over lines of the script that another run has spoken.
"""

import argparse
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audiomamba.errors import ConfigError
from audiomamba.training.corpus import FRAME_SAMPLES, SAMPLE_RATE, CorpusWriter
from audiomamba.training.speech.kokoro.model import Kokoro, Planned, Spoken
from audiomamba.training.speech.kokoro.segments import GAP
from audiomamba.training.speech.kokoro.source import resample_16k
from audiomamba.training.speech.phones import fold_marks, trim_lead
from audiomamba.training.speech.script import Script
from audiomamba.training.speech.voices import Speaker, Voices, uneven

__all__ = ["EVERYBODY", "Batch", "Cast", "Plan", "generate", "load_voice", "plan_batches"]

SOURCE = "kokoro"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How lines are grouped.

    Attributes:
        round_lines: Lines planned and sorted together.
        plan_lines: Lines in one batch of the text nets.
        batch_frames: Frames of 25 ms in one batch of the decoder; 24,000 are 600 s.
    """

    round_lines: int = 2048
    plan_lines: int = 512
    batch_frames: int = 24_000


@dataclass(frozen=True, slots=True)
class Batch:
    """A packed batch of speech at 16 kHz, on the way to the corpus."""

    samples: Tensor  # int16, on the host once ``ready`` has passed
    ready: torch.cuda.Event | None
    spoken: Spoken
    lines: list[int]  # of the script
    frames: list[NDArray[np.int64]]  # of each line's tokens
    speakers: list[Speaker]


def load_voice(pack: Path, device: torch.device) -> Kokoro:
    """The voice model, as fast as the device allows: float16 decoder and tuned kernels on a GPU."""
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")
        return Kokoro.load(pack / "kokoro.safetensors.z", device, torch.float16)
    return Kokoro.load(pack / "kokoro.safetensors.z", device, torch.float32)


class Cast(NamedTuple):
    """Who may speak: voices kept for evaluation, so many stock voices, or (0) all and mixes."""

    held_out: bool = False
    stock: int = 0

    def draw(self, voices: Voices, rng: np.random.Generator, *, british: bool) -> Speaker:
        """A speaker for a line."""
        if self.held_out:
            return voices.held_out(rng, british=british)
        if self.stock:
            return voices.one_of(self.stock, rng)
        return voices.draw(rng, british=british)


EVERYBODY = Cast()


def _speakers(
    script: Script, lines: list[int], voices: Voices, seed: int, cast: Cast
) -> list[Speaker]:
    """A line's speaker depends on the seed and the line alone, so runs can be continued."""
    return [
        cast.draw(voices, np.random.default_rng([seed, i]), british=bool(script.british[i]))
        for i in lines
    ]


def _plan_round(
    model: Kokoro,
    script: Script,
    lines: list[int],
    speakers: list[Speaker],
    voices: Voices,
    plan_lines: int,
    seed: int,
    device: torch.device,
) -> Planned:
    parts = []
    for at in range(0, len(lines), plan_lines):
        ids = [script.line(i) for i in lines[at : at + plan_lines]]
        who = speakers[at : at + plan_lines]
        style = np.stack([voices.style(one, len(line)) for one, line in zip(who, ids, strict=True)])
        speed = torch.tensor([one.speed for one in who], device=device)
        parts.append(model.plan(ids, torch.from_numpy(style).to(device), speed))
    planned = Planned.join(parts)
    frames = planned.frames.copy()
    for i, one, start, end in zip(
        lines, speakers, planned.offsets[:-1], planned.offsets[1:], strict=True
    ):
        rng = np.random.default_rng([seed, i, 1])
        frames[start:end] = uneven(frames[start:end], one.unevenness, rng)
    return replace(planned, frames=frames)


def plan_batches(
    lengths: NDArray[np.int64], batch_frames: int
) -> tuple[list[list[int]], list[int]]:
    """Group lines of similar length into full batches.

    Args:
        lengths: Frames of each line.
        batch_frames: Room of a batch, gaps included.

    Returns:
        Batches of positions, and the positions left over, too few for a batch.
    """
    batches: list[list[int]] = []
    held: list[int] = []
    room = batch_frames - GAP
    for i in np.argsort(lengths, kind="stable").tolist():
        need = int(lengths[i]) + GAP
        if need > room and held:
            batches.append(held)
            held, room = [], batch_frames - GAP
        held.append(i)
        room -= need
    return batches, held


def speak_lines(
    model: Kokoro,
    script: Script,
    voices: Voices,
    lines: Iterator[int],
    plan: Plan,
    *,
    seed: int,
    cast: Cast = EVERYBODY,
) -> Iterator[Batch]:
    """Speak lines of the script, batch by batch, until they end."""
    device = next(model.parameters()).device
    left: list[int] = []
    ended = False
    while not ended:
        chosen = list(left)
        for i in lines:
            chosen.append(i)
            if len(chosen) == plan.round_lines:
                break
        else:
            ended = True
        if not chosen:
            return
        chosen.sort(key=lambda i: len(script.line(i)))
        speakers = _speakers(script, chosen, voices, seed, cast)
        planned = _plan_round(
            model, script, chosen, speakers, voices, plan.plan_lines, seed, device
        )
        batches, rest = plan_batches(planned.line_frames(), plan.batch_frames)
        if ended and rest:
            batches.append(rest)
        # Lines that do not fill a batch wait for the next round.
        left = [] if ended else [chosen[k] for k in rest]
        for batch in batches:
            who = [speakers[k] for k in batch]
            pitch = torch.tensor([one.pitch for one in who])
            if device.type == "cuda":
                pitch = pitch.pin_memory().to(device, non_blocking=True)
            spoken = model.speak(planned, batch, plan.batch_frames, pitch=pitch)
            samples = resample_16k(spoken.wave)
            ready = None
            if device.type == "cuda":
                host = torch.empty_like(samples, device="cpu", pin_memory=True)
                samples = host.copy_(samples, non_blocking=True)
                ready = torch.cuda.Event()
                ready.record()
            frames = [planned.frames[planned.offsets[k] : planned.offsets[k + 1]] for k in batch]
            yield Batch(samples, ready, spoken, [chosen[k] for k in batch], frames, who)


def write_batch(
    writer: CorpusWriter, script: Script, batch: Batch, rng: np.random.Generator
) -> None:
    """Cut a batch into utterances, trim their starts to 50 to 100 ms, append them."""
    if batch.ready is not None:
        batch.ready.synchronize()
    samples = batch.samples.numpy()
    for i, start, frames, speaker in zip(
        batch.lines, batch.spoken.starts, batch.frames, batch.speakers, strict=True
    ):
        trimmed, cut = trim_lead(frames, int(rng.integers(2, 5)))
        tokens = np.concatenate([[0], script.line(i), [0]]).astype(np.uint8)
        ids, lengths = fold_marks(tokens, trimmed)
        begin = (start + cut) * FRAME_SAMPLES
        writer.append(
            samples[begin : begin + int(trimmed.sum()) * FRAME_SAMPLES],
            script.texts[i],
            source=SOURCE,
            speaker=speaker.name,
            phone_ids=ids,
            phone_frames=lengths,
        )
    writer.flush()


def generate(
    pack: Path,
    out: Path,
    *,
    device: torch.device,
    enough: Callable[[float, float], bool],
    start: int = 0,
    seed: int = 1,
    cast: Cast = EVERYBODY,
    plan: Plan | None = None,
) -> float:
    """Speak the script into a corpus.

    Args:
        pack: Folder of the weights, voices and scripts.
        out: The corpus; appended to where it exists.
        device: Where the voice runs.
        enough: Told the seconds since the call and the seconds of audio, says when to stop.
        start: Lines of the script to pass over.
        seed: Of the speakers.
        cast: Who may speak; voices kept for evaluation speak a script of their own.
        plan: How lines are grouped.

    Returns:
        Seconds of audio made.

    Raises:
        ConfigError: the pack holds no script, or ``start`` is past its end.
    """
    began = time.monotonic()
    paths = sorted(pack.glob("script-eval*.npz.xz" if cast.held_out else "script-[0-9]*.npz.xz"))
    if not paths:
        raise ConfigError(f"generate: no script in {pack}")
    script = Script.join([Script.load(path) for path in paths])
    if start >= len(script):
        raise ConfigError(f"generate: the script has {len(script)} lines, start is {start}")
    voices = Voices.load(pack / "kokoro-voices.npz")
    model = load_voice(pack, device)
    print(f"loaded in {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)
    waiting: queue.Queue[Batch | None] = queue.Queue(maxsize=3)
    failure: list[BaseException] = []

    def drain(writer: CorpusWriter) -> None:
        rng = np.random.default_rng([seed, start])
        try:
            while (batch := waiting.get()) is not None:
                write_batch(writer, script, batch, rng)
        except BaseException as error:
            failure.append(error)
            while waiting.get() is not None:
                pass

    made, last_line, report = 0.0, start, began
    with CorpusWriter(out) as writer:
        writing = threading.Thread(target=drain, args=(writer,), name="corpus")
        writing.start()
        try:
            lines = iter(range(start, len(script)))
            for batch in speak_lines(
                model, script, voices, lines, plan or Plan(), seed=seed, cast=cast
            ):
                waiting.put(batch)
                made += sum(batch.spoken.frames) * FRAME_SAMPLES / SAMPLE_RATE
                last_line = max(last_line, *batch.lines)
                now = time.monotonic()
                if now - report > 5:
                    report = now
                    _report(made, now - began, last_line)
                if failure or enough(now - began, made):
                    break
        finally:
            waiting.put(None)
            writing.join()
    if failure:
        raise failure[0]
    _report(made, time.monotonic() - began, last_line)
    return made


def _report(made: float, spent: float, last_line: int) -> None:
    print(
        f"{made / 3600:.2f} h in {spent:.0f} s, {made / spent:.0f} x real time, "
        f"up to line {last_line}",
        file=sys.stderr,
        flush=True,
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="fill a corpus with synthetic speech")
    parser.add_argument("--pack", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    limit = parser.add_mutually_exclusive_group(required=True)
    limit.add_argument("--seconds", type=float, help="stop after so much time")
    limit.add_argument("--hours", type=float, help="stop after so much audio")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--start", type=int, default=0, help="lines of the script to pass over")
    parser.add_argument("--seed", type=int, default=1)
    who = parser.add_mutually_exclusive_group()
    who.add_argument("--held-out", action="store_true", help="the voices kept for evaluation")
    who.add_argument(
        "--stock-voices", type=int, default=0, metavar="N", help="so many and no mixes of them"
    )
    parser.add_argument("--batch-seconds", type=float, default=600.0)
    parser.add_argument("--round-lines", type=int, default=2048)
    options = parser.parse_args()

    def enough(spent: float, made: float) -> bool:
        if options.seconds is not None:
            return bool(spent >= options.seconds)
        return bool(made >= options.hours * 3600)

    generate(
        options.pack,
        options.out,
        device=torch.device(options.device),
        enough=enough,
        start=options.start,
        seed=options.seed,
        cast=Cast(options.held_out, options.stock_voices),
        plan=Plan(batch_frames=int(options.batch_seconds * 40), round_lines=options.round_lines),
    )


if __name__ == "__main__":
    main()
