"""The verbs: each module puts the stages in order for one thing that callers ask."""
