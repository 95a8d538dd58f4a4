"""Forms of a tuned model for servers, merged or quantised, each held to its adapter."""
