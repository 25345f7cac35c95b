from pathlib import Path

import numpy as np

from audiomamba.training.augment.rooms import ROOM_TAPS, room_bank
from audiomamba.training.corpus import Corpus, CorpusWriter


def test_responses_begin_with_the_direct_sound_and_have_unit_energy() -> None:
    bank = room_bank([], count=20)
    assert bank.shape == (21, ROOM_TAPS)
    np.testing.assert_allclose(np.square(bank).sum(1), 1, rtol=1e-4)
    assert (np.abs(bank).argmax(1) == 0).mean() > 0.8
    assert (bank[:, 0] > 0.05).all()


def test_row_zero_is_no_room() -> None:
    assert room_bank([], count=1)[0].nonzero()[0].tolist() == [0]


def test_rooms_come_again_from_their_seed() -> None:
    np.testing.assert_array_equal(room_bank([], count=3, seed=4), room_bank([], count=3, seed=4))


def test_a_recorded_room_is_cut_to_its_direct_sound(tmp_path: Path) -> None:
    response = np.zeros(5000, np.int16)
    response[700:1000] = np.linspace(20_000, 0, 300)
    with CorpusWriter(tmp_path) as writer:
        writer.append(response, "", source="room")
        writer.append(response, "", source="noise")
    bank = room_bank([Corpus(tmp_path)], count=0)
    assert len(bank) == 11
    assert bank[1, 0] == bank[1].max() and not bank[1, 300:].any()
