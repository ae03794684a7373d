"""The log: segments, the index over them, and what writes and reads them."""
