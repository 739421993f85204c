"""Probes: small models that are trained on activations, evaluated honestly, and exported to ONNX."""
