"""What must not be published: how layers, cards and evidence are searched for it (docs/scan.md)."""
