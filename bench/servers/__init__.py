"""The servers that can be measured: how each is started, and what it speaks."""
