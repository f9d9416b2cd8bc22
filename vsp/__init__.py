"""vsp: where inside a vision-language model the knowledge of spatial relations lives."""

# Nothing is imported here: the folder that a command runs in may hold a file of any name, and is only
# left out of the search afterwards.
TYPE_CHECKING = False  # True for type checkers
if TYPE_CHECKING:
    from vsp.api import open_results, open_run

__all__ = ["__version__", "open_results", "open_run"]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Import `vsp.api` when one of its functions is used, so that `import vsp` stays light."""
    if name in ("open_results", "open_run"):
        from vsp import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
