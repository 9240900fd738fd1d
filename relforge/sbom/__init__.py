"""The bill of materials of an image and its sources, and the licences in it (docs/sbom.md)."""
