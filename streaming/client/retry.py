"""When to try again, and after how long."""

import random
from collections.abc import Iterator

__all__ = ["RETRIED", "delays"]

# Closes after which the same stream may go on elsewhere or later. Every other code names a fault
# of the request, which a second try would only repeat.
RETRIED = frozenset({1001, 1005, 1006, 1011, 1012, 1013, 1014, 4408, 4413})


def delays(
    first_s: float = 0.1, most_s: float = 3.0, growth: float = 1.5, seed: int | None = None
) -> Iterator[float]:
    """Seconds to wait before each try: full jitter under a growing bound.

    Jitter keeps the clients of a restarted server from all coming back in the same instant.
    """
    draw = random.Random(seed)
    bound = first_s
    while True:
        yield draw.uniform(0.0, bound)
        bound = min(bound * growth, most_s)
