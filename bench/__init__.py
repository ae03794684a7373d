"""Load tests: `python -m bench`. docs/PERFORMANCE.md says what they found."""
