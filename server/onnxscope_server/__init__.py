"""onnxscope's server: models in, activations out.

The packages are named after the stages through which data flows: `api`, `catalog`, `plan`, `rewrite`, `run`, `wire`;
`pipeline` puts them in order, one module a verb.
"""
