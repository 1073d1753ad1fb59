"""Messages as bytes, each with what must come of it: the cases that tests replay on real sockets."""
