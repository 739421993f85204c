"""The first stage: thin servicers between onnxscope.v1 and the domain."""
