"""A patched tree: applied, written to a folder, a worktree or an archive, looked at, taken back."""
