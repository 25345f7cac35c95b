if __name__ != "audiomamba.conf":
    raise ImportError(f"import audiomamba.conf, not {__name__}")
