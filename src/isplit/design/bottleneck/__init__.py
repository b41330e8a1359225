"""Bottlenecks at a cut: encoder on the device, decoder on the server."""
