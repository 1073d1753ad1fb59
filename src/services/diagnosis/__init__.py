"""What stands between an account and its first token, looked at piece by piece. Nothing is changed by looking."""
