"""Attacks on a broker by raw sockets and raw bytes. docs/SECURITY.md lists them with their results.

Each test is named by its attack. It shows that the attacker got nothing, and that honest people
beside it noticed nothing.
"""
