"""What a gate's model may hold, read before anything runs it, and its first run in a child."""
