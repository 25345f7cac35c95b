"""The only place where a model runs while serving: slots, turns, batches."""

from audiomamba.streaming.engine.engine import Engine
from audiomamba.streaming.engine.engines import Engines
from audiomamba.streaming.engine.model import Recognizer, StepModel
from audiomamba.streaming.engine.session import Session

__all__ = ["Engine", "Engines", "Recognizer", "Session", "StepModel"]
