"""Tests of Hubbub: unit, sim, integration, faults, cli."""
