"""Who types: parse, one call, render."""
