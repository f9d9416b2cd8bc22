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
IMPORTERS = Registry(
    "source",
    {
        "csv": "vsp.datasets.table:IMPORTER",
        "gqa": "vsp.datasets.graphs:GQA",
        "vg": "vsp.datasets.graphs:VISUAL_GENOME",
        "vrd": "vsp.datasets.vrd:IMPORTER",
        "vsr": "vsp.datasets.vsr:IMPORTER",
        "whatsup": "vsp.datasets.whatsup:IMPORTER",
    },
)

# Controls: the rows of a dataset, with something else to see or to ask.
VARIANTS = Registry(
    "variant",
    {
        "blank": "vsp.datasets.variants:BLANK",
        "mirrored": "vsp.datasets.variants:MIRROR",
        "names": "vsp.datasets.variants:NAMES",
        "shuffled": "vsp.datasets.variants:SHUFFLED",
        "swapped": "vsp.datasets.variants:SWAPPED",
    },
)
