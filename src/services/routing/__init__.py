"""Who may serve a request, and what may be sent again. Pure."""
