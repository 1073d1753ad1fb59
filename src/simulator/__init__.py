"""An account that does not exist: the vast.ai API, instances with SSH, and engines, for the demo and for tests."""
