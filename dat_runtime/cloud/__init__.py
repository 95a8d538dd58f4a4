"""What receives on the other end: it stores, then acknowledges, then shows."""
