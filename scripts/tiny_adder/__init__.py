"""tiny-adder, a real model small enough to be trained in minutes: the parts of its script."""
