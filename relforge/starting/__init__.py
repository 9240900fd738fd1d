"""A new release: manifests made of answers, with comments where a person goes on."""
