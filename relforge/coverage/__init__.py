"""Operator coverage: which operators a forward pass dispatches, and whose kernels compute them."""
