"""Manifests: frozen models of devices, models, releases and the site, and how they are loaded."""
