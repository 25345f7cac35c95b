"""What a server takes: clients that speak to it by the clock, and what it costs meanwhile."""

from audiomamba.streaming.load.cases import CASES, Load, Report
from audiomamba.streaming.load.process import ServerProcess

__all__ = ["CASES", "Load", "Report", "ServerProcess"]
