"""Where a release goes: a folder with an OCI image layout, an OCI registry."""
