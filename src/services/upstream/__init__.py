"""HTTP/1.1 to an engine over a stream, and the pool of such connections."""
