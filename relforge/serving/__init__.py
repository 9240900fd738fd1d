"""Serving: the launch spec (always a list of nodes), probes, and the diagnosis of failures."""
