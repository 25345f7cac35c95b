if __name__ != "audiomamba.kernels":
    raise ImportError(f"import audiomamba.kernels, not {__name__}")

# Neither loads Triton or torch before it is called.
from audiomamba.kernels.launching import Warmed, compilations, warmup

__all__ = ["Warmed", "compilations", "warmup"]
