if __name__ != "audiomamba.streaming":
    raise ImportError(f"import audiomamba.streaming, not {__name__}")
