"""Images as content: descriptors, and the places that hold them (registry, layout, tar)."""
