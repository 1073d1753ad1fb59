"""What we know and decide, and how we reach the instances."""
