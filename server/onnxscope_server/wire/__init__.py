"""The last stage: values become messages of the right size."""
