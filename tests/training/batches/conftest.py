from pathlib import Path

import numpy as np
import pytest

from audiomamba.training.batches import Part
from audiomamba.training.corpus import FRAME_SAMPLES, Corpus, CorpusWriter


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[Part]:
    """A synthetic corpus that sounds at the height phone id / 256, and a real one."""
    folder: Path = tmp_path_factory.mktemp("corpora")
    rng = np.random.default_rng(3)
    with CorpusWriter(folder / "synthetic") as writer:
        for i in range(60):
            ids = rng.integers(1, 178, rng.integers(3, 40))
            frames = rng.integers(2, 6, len(ids))
            audio = np.repeat(ids * 128, frames * FRAME_SAMPLES).astype(np.int16)
            writer.append(
                audio, "ab" if i % 2 else "cd e", source="made", phone_ids=ids, phone_frames=frames
            )
    with CorpusWriter(folder / "real") as writer:
        for source, count in (("big", 40), ("small", 5)):
            for _ in range(count):
                audio = rng.normal(0, 2000, rng.integers(6_000, 60_000)).astype(np.int16)
                writer.append(audio, "xy z", source=source, speaker="s")
        writer.append(np.zeros(16_000, np.int16), "", source="silent")
    return [Part(Corpus(folder / "synthetic"), False), Part(Corpus(folder / "real"), True)]
