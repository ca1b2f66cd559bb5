"""The same work in each library; each module has `start`, `describe` and `prepare`."""
