"""The probe of a run, of vsp or of the user, configured by the settings."""

from __future__ import annotations

from vsp.errors import ProbeError
from vsp.evaluation.metrics import METRICS, Metric
from vsp.evaluation.probe_settings import ProbeSettings
from vsp.probes import PROBES
from vsp.probes.base import ProbeBase
from vsp.probes.erasure.methods import check_erasure
from vsp.probes.own_code import is_own, probe_title

_LIMITS = {"tol": "--tolerance", "max_iter": "--max-iter"}


def plain_probe(settings: ProbeSettings) -> ProbeBase:
    """The probe with its own defaults. Raises ConfigError if it is not known or cannot be loaded."""
    if is_own(settings.probe):
        from vsp.probes.own_estimator import own_probe

        return own_probe(settings.probe, settings.probe_code, settings.probe_options)
    probe: ProbeBase = PROBES.load(settings.probe)()
    if settings.probe_options:
        raise ProbeError(
            f"--probe-option {settings.probe_options[0][0]}: probe {settings.probe} of vsp has none; "
            "leave it out, or name a class with --probe package.module:Class"
        )
    return probe


def configured_probe(settings: ProbeSettings, metric: Metric) -> ProbeBase:
    """The probe with these settings. Raises ProbeError for a setting that it does not have."""
    probe = plain_probe(settings)
    title = probe_title(settings.probe)
    if settings.strengths and not probe.strength_name:
        raise ProbeError(f"probe {title} has no strength to choose; leave out --grid")
    if metric is METRICS["log-loss"] and not probe.link:
        raise ProbeError(f"probe {title} has no probabilities; use another --metric than log-loss")
    _check_limits(settings, probe, title)
    check_erasure(settings.erase, settings.erase_rank, probe.target == "number")
    weight = _class_weight(settings, metric, probe)
    if is_own(settings.probe) and probe.target == "label":
        probe.set_params(trust_scores=metric in (METRICS["auc"], METRICS["log-loss"]))
    return probe.configure(
        settings.treatment, settings.tolerance, settings.max_iter, settings.seed, weight
    )


def _check_limits(settings: ProbeSettings, probe: ProbeBase, title: str) -> None:
    """Raise ProbeError for a tolerance or a number of iterations that the probe does not have."""
    given = {"tol": settings.tolerance, "max_iter": settings.max_iter}
    for name, value in given.items():
        if value and name not in probe.get_params():
            instead = (
                f"use --probe-option {name}={value:g} if its class has it"
                if is_own(settings.probe)
                else "leave it out"
            )
            raise ProbeError(f"probe {title} has no {_LIMITS[name]}; {instead}")


def _class_weight(settings: ProbeSettings, metric: Metric, probe: ProbeBase) -> str:
    """`weighting` of the probe; empty if it has none."""
    weight, title = settings.class_weight, probe_title(settings.probe)
    if not _takes_weights(settings, probe):
        if weight != "auto":
            raise ProbeError(f"probe {title} has no class weights; leave out --class-weight")
        return ""
    given = dict(settings.probe_options).get("class_weight")
    if given is not None:
        if weight != "auto":
            raise ProbeError(
                "--class-weight and --probe-option class_weight say the same; leave out one of them"
            )
        weight = "balanced"
    if weight == "balanced" and metric is METRICS["log-loss"]:
        raise ProbeError(
            "--class-weight balanced changes the probabilities that --metric log-loss scores; leave "
            "out one of them"
        )
    if weight == "auto":
        weight = "balanced" if metric is METRICS["balanced"] else "none"
    return weight


def _takes_weights(settings: ProbeSettings, probe: ProbeBase) -> bool:
    if is_own(settings.probe):
        from vsp.probes.own_estimator import takes_class_weight

        return probe.target == "label" and takes_class_weight(probe)
    return "weighting" in probe.get_params()
