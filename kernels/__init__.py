if __name__ != "audiomamba.kernels":
    raise ImportError(f"import audiomamba.kernels, not {__name__}")
