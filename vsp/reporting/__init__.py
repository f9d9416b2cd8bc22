"""Tables, pages and plots of what is on disk."""
