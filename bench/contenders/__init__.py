"""Who is measured. Each contender is one module with a way to start it."""
