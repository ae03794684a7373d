"""What can be measured; one module a sub-command, the same for every server."""
