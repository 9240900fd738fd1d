"""Executors: where a job runs. The pipeline is the same for all of them."""
