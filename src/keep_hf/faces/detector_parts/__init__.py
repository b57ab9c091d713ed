"""The parts of `FaceDetector`: its networks, and the close-ups of faces that two of them read."""
