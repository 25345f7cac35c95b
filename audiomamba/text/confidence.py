"""How sure a word is: from the probability of its least certain piece to that of it being right.

Beta calibration: the log-odds of being right are ``a log p - b log(1 - p) + c``. With a = b = 1 and
c = 0 nothing is changed, with a = b it is Platt's scaling; a = 0 is what a model wants that hears
many a word rightly of which it was not sure at all.

Source: Kull, Silva Filho and Flach, "Beta calibration", AISTATS 2017.
"""

import math

__all__ = ["UNCHANGED", "Calibration", "calibrated"]

Calibration = tuple[float, float, float]
"""a and b, not negative, and c."""
UNCHANGED: Calibration = (1.0, 1.0, 0.0)
_LEAST = 1e-6  # as near to 0 and 1 as a probability is taken


def calibrated(probability: float, how: Calibration) -> float:
    """A confidence, which rises with ``probability``, both in 0..1."""
    p = min(max(probability, _LEAST), 1 - _LEAST)
    a, b, c = how
    return 1 / (1 + math.exp(-(a * math.log(p) - b * math.log1p(-p) + c)))
