"""Models: what ships, how it is loaded, and what can be done with it."""
