"""The real command line against a real broker, through pipes and under a pseudo-terminal."""
