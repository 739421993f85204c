"""The server's models: the only stage that parses ONNX bytes.

`graph` is the boundary to onnx-ir, `model` a model as the other stages see it and `description` what they are told of
it, `catalog` the models by name and digest, `upload` how they come in, `shared_weights` their weights for all sessions.
"""
