"""Runs plans: many releases at once, what they share once, within what this host has."""
