"""vsp: where inside a vision-language model the knowledge of spatial relations lives."""

__version__ = "0.1.0"
