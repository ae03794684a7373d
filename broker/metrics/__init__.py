"""What is counted, whether the broker lives and serves, and how that is told."""
