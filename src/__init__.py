"""vastproxy: one OpenAI-compatible endpoint in front of every GPU you rent on vast.ai."""

__version__ = "0.1.0"
