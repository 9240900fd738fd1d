"""Benchmarks: how fast a served image answers under load, and which of two is faster."""
