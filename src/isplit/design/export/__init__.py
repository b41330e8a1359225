"""From a study's splits to a bundle: ONNX files that answer as torch does, and what goes with them."""
