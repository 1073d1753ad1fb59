"""Measurements: what a request, a token and a thousand backends cost. Each module is run with `python -m bench.<name>`."""
