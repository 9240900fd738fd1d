"""What runs on disk tell afterwards: lists, one in full, logs, differences."""
