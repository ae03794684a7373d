"""What is decided about sessions, rooms and presence: pure, commands in and effects out."""
