"""Measurements: what a request, a token and a thousand backends cost. Run with `python -m bench.<name>`."""
