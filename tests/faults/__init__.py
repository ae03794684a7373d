"""Tests that kill, freeze and cut: what was acknowledged stays, and everybody becomes whole."""
