"""Who calls us: the ASGI application, the proxy, health, models, administration."""
