"""Where samples come from: synthetic worlds, real datasets, and folders with `metadata.json` and
`images/`, which the others end in."""

from vsp.registry import Registry

# A world is `World`: see vsp.datasets.shapes.
WORLDS = Registry(
    "task",
    {
        "spatial": "vsp.datasets.spatial:SpatialWorld",
        "color": "vsp.datasets.color:ColorWorld",
    },
)

# An importer reads what real datasets say: see vsp.datasets.annotations.
IMPORTERS = Registry("source", {})

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
