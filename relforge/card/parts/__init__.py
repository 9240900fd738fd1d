"""From manifests and evidence to the parts of a card, a module each."""
