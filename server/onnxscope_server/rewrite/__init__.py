"""Rewriting: a plan and a model's graph make segments, graphs that answer the plan and compute nothing else.

One pass a file. A pass changes the copy of the graph that it is given, knows no particular model, and says in its
docstring what it does to a graph.
"""
