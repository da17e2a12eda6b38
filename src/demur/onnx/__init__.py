"""Running ONNX files and exported guards. Free of Keras."""
