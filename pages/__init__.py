"""One script per page: forms in, read results, draw."""
