"""The stage run: sessions of onnxruntime, and values in and out of them. The one package that imports it."""
