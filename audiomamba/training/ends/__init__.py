"""Teaching a finished transcriber to say that nobody will speak for a while."""
