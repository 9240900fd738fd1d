"""Upstream sources: fetched by hash or commit, kept once, identified by a git tree hash."""
