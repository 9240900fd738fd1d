"""What a person sees while relforge works, on stderr; results go to stdout."""
