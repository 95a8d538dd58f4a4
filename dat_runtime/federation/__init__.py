"""Federated increments: what nodes learned, screened and averaged into the next adapter."""
