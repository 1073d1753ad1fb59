"""`vastproxy doctor`: looks at everything between an account and its first token, and says what to do."""
