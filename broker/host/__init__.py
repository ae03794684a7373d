"""What the machine gives and refuses: sockets, descriptors, memory, processes."""
