"""Generated from proto/onnxscope/v1 by proto/generate.py; not edited by hand."""
