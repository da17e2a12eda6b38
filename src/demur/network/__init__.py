"""The detector's one graph: its companion, its training, its scoring."""
