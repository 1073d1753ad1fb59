"""What happens by itself, on a timer."""
