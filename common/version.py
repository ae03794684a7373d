"""The version of Hubbub, written here and nowhere else: pyproject.toml reads it."""

VERSION = "0.1.0"
