"""Networks from ONNX files, as models of diffusers."""
