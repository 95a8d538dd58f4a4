"""What the live demo puts around a node and a receiver: cameras, a model, a thin link."""
