"""Block sizes of ``conv`` on a GPU: a table, never tuned while running."""

from dataclasses import dataclass
from typing import Final

__all__ = ["Tile", "pick_tile"]

PROGRAMS: Final = 1024  # enough to fill 132 multiprocessors several times over
MAX_FRAMES: Final = 256


@dataclass(frozen=True, slots=True)
class Tile:
    """A program's share: ``channels`` by ``threads_time`` threads, eight frames each."""

    channels: int
    threads_time: int
    warps: int

    def splits(self, rows: int, tiles_time: int) -> int:
        """Into how many parts the backward cuts time, given ``rows`` programs without a cut."""
        return max(1, min(tiles_time, PROGRAMS // max(rows, 1)))


# (time contiguous, long): lanes lie along the contiguous axis.
TILES: Final = {
    (True, False): Tile(channels=8, threads_time=16, warps=4),
    (True, True): Tile(channels=4, threads_time=32, warps=4),
    (False, False): Tile(channels=64, threads_time=4, warps=4),
    (False, True): Tile(channels=64, threads_time=4, warps=4),
}


def pick_tile(T: int, K: int, *, time_contiguous: bool) -> Tile:
    """Choose the tile for ``T`` frames and ``K`` taps in a memory layout."""
    return TILES[time_contiguous, T > 2 * MAX_FRAMES]
