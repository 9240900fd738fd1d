"""Finds the mistakes that published model cards carry; knows nothing of our own generator."""
