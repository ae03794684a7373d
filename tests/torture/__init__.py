"""`make torture`: kills and freezes by the hundred under load, and books that must agree."""
