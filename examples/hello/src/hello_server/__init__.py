"""A very small OpenAI-compatible server that adds two integers in C++."""

__version__ = "1.0.0"
