"""Probes: estimators that read a label or a number from hidden states.

A new probe is one file in this folder and one line in the table `PROBES`; another package adds
one through an entry point of the group ``vsp.probes``. `vsp.probes.base` lists the contract of a probe.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsp.errors import ProbeError
from vsp.utils.registry import Registry

if TYPE_CHECKING:
    from vsp.probes.base import ProbeBase

FORMAT = 1  # of `describe_probe`
_TEXTS = ("classes", "treatment")  # arrays of text; all others of vsp's own probes are numbers

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


def describe_probe(
    name: str,
    probe: ProbeBase,
    hidden_size: int,
    classes: Sequence[str] | None,
    strengths: Sequence[float] | None,
) -> dict[str, Any]:
    """Description of the saved arrays of a run's probes, as JSON; `load` reads it.

    `classes`: None for a number. `strengths`: the grid; None if each layer has its own. The
    parameter that each layer chooses is saved among its arrays.
    """
    parameters = probe.described_parameters()
    parameters.pop(probe.strength_name, None)
    return {
        "format": FORMAT,
        "probe": name,
        "treatment": parameters["treatment"],
        "target": probe.target,
        "link": probe.link,
        "parameter": probe.strength_name,
        "grid": None if strengths is None else [*strengths],
        "classes": None if classes is None else [*classes],
        "hidden_size": hidden_size,
        "parameters": parameters,
        "arrays": dict(probe.array_meanings),
        **probe.described_code(),
    }


def load(results: str | Path, layer: int) -> Any:
    """The saved probe of a layer: `load("results/RUN/logistic", 12).predict(states [sample, hidden])`.

    `results` is the folder of a setting, or of a run: its newest setting at the last token.

    Raises RunError if there are no results or they have been changed, ProbeError if they do not
    hold the layer or have another format.
    """
    from vsp.storage.stored_settings import choose_setting

    stored = choose_setting(Path(results))
    description, arrays = stored.probe(layer)
    return _restored(results, layer, description, [arrays])[0]


def load_folds(results: str | Path, layer: int) -> list[Any]:
    """The saved probes of a layer, one for each outer split; empty without folds.

    Raises RunError and ProbeError as `load` does.
    """
    from vsp.storage.stored_settings import choose_setting

    stored = choose_setting(Path(results))
    description, _ = stored.probe(layer)
    return _restored(results, layer, description, stored.fold_probes(layer))


def _restored(
    results: str | Path, layer: int, description: Mapping[str, Any], probes: Sequence[Any]
) -> list[Any]:
    """The probes whose arrays these are."""
    import numpy as np

    if description.get("format") != FORMAT:
        raise ProbeError(
            f"{results}: probes have format {description.get('format')!r}, this vsp reads {FORMAT}; "
            "use the vsp that wrote them, or run `vsp probe` again"
        )
    name, classes = str(description.get("probe")), description.get("classes")
    own, restored = "own_code" in description, []
    if own and not all(probes):
        raise ProbeError(
            f"{results}: the probe of layer {layer} is not saved: {name} has no coef_ and "
            "intercept_ that give its predictions; use `vsp probe` with a class that has them"
        )
    probe_class = _readout_class(description) if own else PROBES.load(name)
    try:
        for arrays in probes:
            if own or name in PROBES.own_names():
                _check_numbers(arrays)
            probe = probe_class.from_arrays(arrays)
            if own:
                probe.link = {"": "", "softmax": "softmax"}[description["link"]]
            else:
                probe.set_params(**description["parameters"])
            if classes is not None and probe.classes_.dtype.kind in "iu":  # fitted on class indices
                probe.classes_ = np.array(classes)[probe.classes_]
            _check_scores(probe, description["hidden_size"], len(classes or [""]))
            restored.append(probe)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):  # a stranger's arrays
        raise ProbeError(
            f"{results}: the probe of layer {layer} is not what vsp writes; run `vsp probe` again"
        ) from None
    return restored


def _readout_class(description: Mapping[str, Any]) -> Any:
    """The class of saved estimators of the user; their own code is not loaded."""
    from vsp.probes.saved_readout import SavedLabelReadout, SavedNumberReadout

    return SavedNumberReadout if description.get("target") == "number" else SavedLabelReadout


def _check_scores(probe: Any, hidden_size: int, n_columns: int) -> None:
    """Raise ValueError unless the probe scores states of this size, with a column for each class."""
    import numpy as np

    scores = np.asarray(probe.scores(np.ones((1, hidden_size), np.float32)))
    if scores.shape != (1, n_columns) or not np.isfinite(scores).all():
        raise ValueError(f"scores {scores.tolist()} are not {n_columns} numbers")


def _check_numbers(arrays: Mapping[str, Any]) -> None:
    for name, array in arrays.items():
        if name not in _TEXTS and array.dtype.kind not in "biuf":
            raise ValueError(f"array {name} has dtype {array.dtype}, not numbers")
