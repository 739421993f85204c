"""Every value of every model: the runner behind `make conformance`, and what it compares with."""
