"""`vastproxy top`: the terminal dashboard. It shows a running proxy that it asks over HTTP, and takes orders for it.

What is shown is worked out by pure functions from what the proxy has told; Textual draws it and listens to keys.
"""
