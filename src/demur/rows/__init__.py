"""What rows are: their layout, streams of them, tables and texts made numbers."""
