"""What watching costs, as ratios measured side by side: `python -m tests.benchmarks --help`."""
