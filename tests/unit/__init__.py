"""Tests of single modules: no network, no waiting."""
