"""Where samples come from: synthetic worlds, and folders with `metadata.json` and `images/`."""

from vsp.registry import Registry

# A world is `World`: see vsp.datasets.shapes.
WORLDS = Registry(
    "task",
    {
        "spatial": "vsp.datasets.spatial:SpatialWorld",
        "color": "vsp.datasets.color:ColorWorld",
    },
)
