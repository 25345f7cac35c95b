"""Training a language model over word pieces, for the search to rank hypotheses by."""
