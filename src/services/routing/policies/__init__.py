"""The ways to choose who serves a request, each a small class on `routing.policy.Policy`. Pure."""
