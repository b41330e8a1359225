"""Bottlenecks in closed form: moments of what crosses, solved for the best linear encoder and decoder."""
