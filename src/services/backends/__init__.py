"""One instance being served: its life, its health, what runs inside it, its GPUs."""
