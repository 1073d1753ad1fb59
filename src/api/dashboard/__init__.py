"""The web dashboard: files that hold no data, and the endpoint that serves them."""
