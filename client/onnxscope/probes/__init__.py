"""Probes: small models trained on activations, and what an honest evaluation says of them."""
