"""The digits model: shipped with the package, so that there is always something to look at."""
