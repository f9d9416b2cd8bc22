"""Serves results to a browser on the same machine; reads only, and never maps an address to a path."""
