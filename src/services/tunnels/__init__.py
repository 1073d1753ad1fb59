"""SSH to the instances: connections, streams, commands, host keys."""
