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
