"""Trained checks of what selection is for: selective copying and induction heads.

``python -m audiomamba.training.tasks --task selective_copying --dynamics selective``
"""

from audiomamba.training.tasks.problems import INDUCTION_HEADS, PROBLEMS, SELECTIVE_COPYING, Problem

__all__ = ["INDUCTION_HEADS", "PROBLEMS", "SELECTIVE_COPYING", "Problem"]
