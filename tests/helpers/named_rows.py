"""Made-up rows that name two objects, and their fits on features or on given states."""

from types import SimpleNamespace

import numpy as np

from vsp.evaluation.baseline_features import FEATURES
from vsp.evaluation.configured_probe import configured_probe
from vsp.evaluation.evaluate import EvaluatedRows, EvaluationSettings, evaluate
from vsp.evaluation.held_out import independent_units
from vsp.evaluation.parallel_fits import fit_layer
from vsp.evaluation.probe_settings import ProbeSettings
from vsp.evaluation.probe_work import _layer_tasks
from vsp.evaluation.probed_rows import ProbedRows
from vsp.probes import PROBES


def named_rows(subject, reference, label, group, boxes=None):
    """Rows with these names; boxes [row, 8] are shares of the picture."""
    subject, reference, label, group = map(np.asarray, (subject, reference, label, group))
    n_rows = len(subject)
    prompt = [f"Where is the {s} from the {r}?" for s, r in zip(subject, reference, strict=True)]
    boxes = np.full((n_rows, 8), np.nan) if boxes is None else boxes
    return ProbedRows(
        np.arange(n_rows),
        np.char.add("row", np.arange(n_rows).astype(str)),
        label,
        group,
        np.array(prompt),
        np.full(n_rows, ""),
        subject,
        reference,
        boxes[:, :4],
        boxes[:, 4:],
    )


def random_rows(seed, n_rows=400, n_names=12, n_groups=200, chance=0.0, n_labels=2):
    """Rows of random names; a name pair has a label of its own, which a row has with `1 - chance`."""
    rng = np.random.default_rng(seed)
    subject, reference = rng.integers(n_names, size=(2, n_rows))
    of_pair = rng.integers(n_labels, size=(n_names, n_names))
    other = rng.integers(n_labels, size=n_rows)
    label = np.where(rng.random(n_rows) < chance, other, of_pair[subject, reference])
    text = [np.char.add(*pair) for pair in (
        ("name", subject.astype(str)), ("name", reference.astype(str)), ("label", label.astype(str)),
        ("image", rng.integers(n_groups, size=n_rows).astype(str)),
    )]  # fmt: skip
    return named_rows(*text)


def fitted(rows, states=(), **settings):
    """Fits of layers with `states` [row, hidden], the baselines on words, and their summary."""
    settings = ProbeSettings(**{"controls": 0, "curve": False, "permutations": 0, **settings})
    tasks, names, facts = _layer_tasks(rows, settings, PROBES.load(settings.probe)())
    work = SimpleNamespace(
        rows=rows, settings=settings, tasks=tasks, probe=configured_probe(settings, tasks.metric),
        features=lambda name: FEATURES[name].make(rows, 0, 0),
    )  # fmt: skip
    store = SimpleNamespace(layer=lambda layer: np.asarray(states[layer], np.float32))
    baselines = {
        name: fit_layer(store, name, work)
        for name in ("names", "words", "boxes")
        if FEATURES[name].exist(rows, 0)
    }
    if not len(states):
        return tasks, baselines, None, None
    fits = [fit_layer(store, layer, work) for layer in range(len(states))]
    unit = independent_units(settings.split_by, rows)
    evaluated = EvaluatedRows(
        tasks.y, unit, tasks.design, tasks.metric, names, rows.prompt, rows.names
    )
    layers = range(len(states))
    scores, summary = evaluate(
        layers, fits, evaluated, EvaluationSettings(resamples=200), baselines
    )
    return tasks, baselines, scores, {**summary, **facts}
