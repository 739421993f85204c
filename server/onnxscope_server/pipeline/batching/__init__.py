"""Dynamic batching: small requests for one plan that come at the same time run together."""
