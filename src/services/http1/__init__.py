"""HTTP/1.1 as bytes: the grammar of heads and bodies, strict and pure. Both sides of the proxy read with it."""
