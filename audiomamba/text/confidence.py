"""How sure a word is: from the probability of its least certain piece to that of it being right.

A network's log-odds are as a rule too far from zero; they are scaled by one number.

Source: temperature scaling, Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural
Networks", ICML 2017; the scale is 1 over their temperature.
"""

import math

__all__ = ["calibrated"]

_LEAST = 1e-6  # as near to 0 and 1 as a probability is taken


def calibrated(probability: float, scale: float) -> float:
    """A confidence, which rises with ``probability``, both in 0..1; scale 1 changes nothing."""
    p = min(max(probability, _LEAST), 1 - _LEAST)
    return 1 / (1 + math.exp(-scale * (math.log(p) - math.log1p(-p))))
