"""The page of results for a browser: one file that makes no request."""
