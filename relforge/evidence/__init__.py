"""Evidence: the result store, the runs, the release record, signatures."""
