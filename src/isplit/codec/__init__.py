"""Images and tensors to bytes and back. numpy and Pillow only: the device and the workstation share it."""
