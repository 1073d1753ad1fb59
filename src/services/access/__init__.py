"""Who may ask: keys of clients, their rights and their limits."""
