"""Find where to split a neural network between a device and a server, before anything is trained."""
