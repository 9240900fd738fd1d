"""Release notes: what changed between two release records, as data and as text."""
