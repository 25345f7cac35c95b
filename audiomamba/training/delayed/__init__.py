"""The delayed-streams head over a trained encoder: its data, training, search and measure."""
