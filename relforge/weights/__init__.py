"""Weights on this host: hub clients, the store that all releases share, folders of the user's."""
