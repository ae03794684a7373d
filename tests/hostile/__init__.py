"""Hostile and clumsy peers at a real broker, beside honest clients who must not notice."""
