"""From what a call asks to a plan: which hook points, which reductions, what it brings and what it costs."""
