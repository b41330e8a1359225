"""Write a split as ONNX files and compare them with torch."""
