"""Building a release again, and what exactly differs between two images."""
