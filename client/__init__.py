"""The client: a library for scripts, and the chat that people type in."""
