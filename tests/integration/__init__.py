"""Tests of real processes on real sockets, on this machine's loopback addresses."""
