"""Probes: estimators that read a label or a number from hidden states; a file and a line each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vsp.errors import ProbeError
from vsp.storage.results import Results
from vsp.utils.registry import Registry

if TYPE_CHECKING:
    from vsp.probes.base import ProbeBase

FORMAT = 1  # of the card

PROBES = Registry(
    "probe",
    "vsp.probes",
    {
        "centroid": "vsp.probes.centroid:Centroid",
        "lda": "vsp.probes.lda:LDA",
        "linear": "vsp.probes.linear:Linear",
        "logistic": "vsp.probes.logistic:Logistic",
        "mass-mean": "vsp.probes.mass_mean:MassMean",
        "mlp": "vsp.probes.mlp:MLP",
        "multinomial": "vsp.probes.logistic:Multinomial",
        "ridge": "vsp.probes.ridge:Ridge",
        "sklearn": "vsp.probes.sklearn_logistic:SklearnLogistic",
    },
)


def card(
    name: str,
    probe: ProbeBase,
    hidden_size: int,
    classes: Sequence[str] | None,
    strengths: Sequence[float] | None,
) -> dict[str, Any]:
    """What the arrays of probes of that name are, for whoever finds them; see `load`.

    The parameter that each layer chooses for itself is among its arrays; without `strengths` each
    has a grid of its own.
    """
    parameters = probe.get_params()
    parameters.pop(probe.grid, None)
    return {
        "format": FORMAT,
        "probe": name,
        "treatment": parameters["treatment"],
        "target": probe.target,
        "link": probe.link,
        "parameter": probe.grid,
        "grid": None if strengths is None else [*strengths],
        "classes": None if classes is None else [*classes],
        "hidden_size": hidden_size,
        "parameters": parameters,
        "arrays": dict(probe.meaning),
    }


def load(results: str | Path, layer: int) -> Any:
    """The saved probe of a layer: `load("results/RUN", 12).predict(states [sample, hidden])`.

    Raises RunError if there are no results or they are not as they were written, ProbeError if
    they hold no such layer or are of another format.
    """
    found, arrays = Results(Path(results)).probe(layer)
    if found["format"] != FORMAT:
        raise ProbeError(
            f"{results}: probes are of format {found['format']}, this vsp reads {FORMAT}; "
            "use the vsp that wrote them, or run `vsp probe` again"
        )
    probe = PROBES.load(found["probe"]).from_arrays(arrays)
    probe.set_params(**found["parameters"])
    if found["classes"] is not None and probe.classes_.dtype.kind in "iu":  # fitted on indices
        probe.classes_ = np.array(found["classes"])[probe.classes_]
    return probe
