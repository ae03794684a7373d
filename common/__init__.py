"""What broker and client agree on: wire, limits, errors, names. Pure: no I/O."""
