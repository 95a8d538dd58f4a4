"""What runs on an edge node: thin shells around the pure core of `dat_runtime`."""
