"""The vision tower split in two, and the learned bits that pass between the halves."""
