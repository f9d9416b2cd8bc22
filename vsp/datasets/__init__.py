"""Where samples come from: synthetic worlds, real datasets, and folders with `metadata.json` and
`images/`, which the others end in."""

from vsp.registry import Registry

# A world is `World`: see vsp.datasets.shapes.
WORLDS = Registry(
    "task",
    {
        "spatial": "vsp.datasets.spatial:SpatialWorld",
        "color": "vsp.datasets.color:ColorWorld",
        "depth": "vsp.datasets.depth:DepthWorld",
        "distance": "vsp.datasets.distance:DistanceWorld",
        "inside": "vsp.datasets.inside:InsideWorld",
        "between": "vsp.datasets.between:BetweenWorld",
        "counting": "vsp.datasets.counting:CountingWorld",
        "size": "vsp.datasets.size:SizeWorld",
    },
)

# An importer reads what real datasets say: see vsp.datasets.annotations.
IMPORTERS = Registry("source", {})
