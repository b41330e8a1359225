"""Turn images and tensors into bytes and back, with numpy and Pillow only; device and workstation share this code."""
