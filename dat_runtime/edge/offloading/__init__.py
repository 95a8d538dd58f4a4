"""A weak node's half of an answer: what is sent so that a server finishes."""
