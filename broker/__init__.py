"""The broker: supervisor, live worker, history workers."""
