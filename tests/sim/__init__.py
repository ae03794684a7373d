"""Tests of broker and clients in one process, on simulated time and a simulated network."""
