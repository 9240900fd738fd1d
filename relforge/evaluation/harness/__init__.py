"""lm-eval, in a child process: what it is asked, and what it answers."""
