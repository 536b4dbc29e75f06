"""`ternac serve`: an HTTP server over executors and boards (docs/server.md)."""
