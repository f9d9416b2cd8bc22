"""Datasets: folders with `metadata.json` and `images/`, written by synthetic worlds, importers and
variants."""

from vsp.utils.registry import Registry

# A world is a class that follows the protocol `vsp.datasets.synthetic.shapes.World`.
WORLDS = Registry(
    "task",
    "vsp.worlds",
    {
        "spatial": "vsp.datasets.synthetic.spatial:SpatialWorld",
        "color": "vsp.datasets.synthetic.color:ColorWorld",
        "depth": "vsp.datasets.synthetic.depth:DepthWorld",
        "distance": "vsp.datasets.synthetic.distance:DistanceWorld",
        "inside": "vsp.datasets.synthetic.inside:InsideWorld",
        "between": "vsp.datasets.synthetic.between:BetweenWorld",
        "counting": "vsp.datasets.synthetic.counting:CountingWorld",
        "size": "vsp.datasets.synthetic.size:SizeWorld",
    },
)

# An importer is a value of `vsp.datasets.importers.annotations.Importer`.
IMPORTERS = Registry(
    "source",
    "vsp.importers",
    {
        "comfort": "vsp.datasets.importers.comfort:IMPORTER",
        "csv": "vsp.datasets.importers.table:IMPORTER",
        "gqa": "vsp.datasets.importers.scene_graphs:GQA",
        "imagefolder": "vsp.datasets.importers.hugging_face:IMAGE_FOLDER",
        "load_from_disk": "vsp.datasets.importers.hugging_face:LOAD_FROM_DISK",
        "mcq": "vsp.datasets.importers.mcq:IMPORTER",
        "parquet": "vsp.datasets.importers.hugging_face:PARQUET",
        "prompts": "vsp.datasets.importers.prompts:IMPORTER",
        "spatialrgpt-bench": "vsp.datasets.importers.spatialrgpt_bench:IMPORTER",
        "tsv": "vsp.datasets.importers.tsv:IMPORTER",
        "vg": "vsp.datasets.importers.scene_graphs:VISUAL_GENOME",
        "vrd": "vsp.datasets.importers.vrd:IMPORTER",
        "vsr": "vsp.datasets.importers.vsr:IMPORTER",
        "whatsup": "vsp.datasets.importers.whatsup:IMPORTER",
    },
)

# A variant is a value of `vsp.datasets.variants.Variant`.
VARIANTS = Registry(
    "variant",
    "vsp.variants",
    {
        "blank": "vsp.datasets.variants:BLANK",
        "mirrored": "vsp.datasets.variants:MIRROR",
        "names": "vsp.datasets.variants:NAMES",
        "shuffled": "vsp.datasets.variants:SHUFFLED",
        "swapped": "vsp.datasets.variants:SWAPPED",
    },
)
