"""Sentences for a methods section, made from what was done for a run, with what they cite."""

from __future__ import annotations

from collections.abc import Iterator

from vsp.probes.own_code import is_own
from vsp.reporting.names import dataset_name, model_name
from vsp.reporting.page.page_run import PageRun
from vsp.reporting.page.references import REFERENCES
from vsp.reporting.page.section import Sentence
from vsp.reporting.probe_report import probe_fact, split_fact
from vsp.utils.text import format_count

_QUANTIZED = {"4bit": "4-bit NormalFloat weights", "8bit": "8-bit integer weights"}
_OPTION_SCORES = {
    "total": "the highest log-likelihood",
    "per-token": "the highest log-likelihood per token",
    "per-character": "the highest log-likelihood per character",
    "corrected": "the highest log-likelihood minus that with a blank picture",
}
_WILSON = ("accuracy", "balanced accuracy", "AUC")


def states_sentences(run: PageRun) -> Iterator[Sentence]:
    """Which states were recorded: model, numbers, prompt and rows."""
    plan, summary = run.plan, run.summary
    if plan.imported is not None:
        yield Sentence(
            f"The states of {format_count(plan.n_samples, 'row')} of dataset {dataset_name(plan)} at "
            f"{plan.n_layers} layers were imported from files."
        )
        return
    family = (plan.model.family,) if plan.model.family in REFERENCES else ()
    yield Sentence(
        f"For {format_count(plan.n_samples, 'row')} of dataset {dataset_name(plan)}, each a picture "
        f"with a prompt (style {plan.prompt}), one forward pass of {model_name(plan.model)} (family "
        f"{plan.model.family}) recorded "
        f"the hidden state ({run.position}) at {summary['n_layers']} layers "
        f"of width {summary['hidden_size']}, computed in {plan.compute_dtype} and stored in "
        f"{plan.dtype}.",
        family,
    )
    kind = plan.model.quantized_as
    if kind != "none":
        words = _QUANTIZED.get(kind, f"weights quantised as {kind}")
        yield Sentence(f"The language model had {words}.", (kind,) if kind in REFERENCES else ())
    if plan.model.adapter:
        yield Sentence("The model had a LoRA adapter.", ("adapter",))
    if plan.model.weights == "random":
        yield Sentence("Its weights were random: the model was not trained.")
    if plan.variants:
        yield Sentence(f"The dataset was changed before: {', '.join(plan.variants)}.")


def probe_sentences(run: PageRun) -> Iterator[Sentence]:
    """How probes were fitted, scored and tested."""
    summary = run.summary
    yield Sentence(
        f"A probe was fitted on each layer with vsp ({probe_fact(summary['probe'])}).",
        _probe_cites(run),
    )
    best = next(score for score in run.scores if score.layer == run.selected)
    yield Sentence(f"Split: {split_fact(summary, best)}.")
    yield Sentence(
        f"The score is {run.statistic} on test rows; the layer to cite was selected on training rows."
    )
    yield _intervals(run)
    yield from _permutations(run)
    yield from _further(run)
    yield from _answers(run)


def citations(sentences: Iterator[Sentence], run: PageRun) -> list[str]:
    """Keys of what the sentences cite, and of the libraries that computed the states."""
    keys = [key for sentence in sentences for key in sentence.cites]
    packages = () if run.plan.imported else ("transformers", "torch")
    return list(dict.fromkeys([*keys, *(one for one in packages if one in run.plan.packages)]))


def _probe_cites(run: PageRun) -> tuple[str, ...]:
    name = run.summary["probe"]["probe"]
    cites = ["probing"]
    if name == "mass-mean":
        cites.append("mass-mean")
    if name == "lda":
        cites += ["lda", "shrinkage"]
    if name == "sklearn" or (is_own(name) and name.startswith("sklearn.")):
        cites.append("scikit-learn")
    return tuple(cites)


def _has_folds(run: PageRun) -> bool:
    return bool(sum(run.summary["peak"]["layers"].values()) > 1)


def _intervals(run: PageRun) -> Sentence:
    summary = run.summary
    how = (
        "Wilson intervals with an effective number of rows from"
        if run.statistic in _WILSON
        else "t intervals from"
    )
    text = (
        f"Intervals ({summary['confidence']:.0%}) are {how} {summary['resamples']:,} bootstrap "
        f"resamples of {summary['n_groups']:,} groups"
    )
    cites = ["wilson", "intervals", "bootstrap"] if run.statistic in _WILSON else ["bootstrap"]
    if _has_folds(run):
        text += ", corrected for the dependence of folds"
        cites += ["folds", "folds bound"]
    return Sentence(f"{text}.", tuple(cites))


def _permutations(run: PageRun) -> Iterator[Sentence]:
    n = run.summary["n_permutations"]
    if not n:
        return
    yield Sentence(
        f"p values are from {n:,} refits with labels permuted over groups, corrected for the number of "
        "layers by the maximum statistic.",
        ("maximum",),
    )
    if any(score.p_within is not None for score in run.scores):
        yield Sentence(
            "A second test permutes labels among rows with the same prompt; a probe that reads only the "
            "words does not get a small p.",
            ("within",),
        )


def _further(run: PageRun) -> Iterator[Sentence]:
    summary, first = run.summary, run.scores[0]
    if first.controls:
        n = max(control["tasks"] for control in summary["controls"].values())
        yield Sentence(
            f"Selectivity is the normalised score minus that of {n} control tasks, which give each "
            "type of row a random label.",
            ("controls",),
        )
    if any(score.code_bits is not None for score in run.scores):
        yield Sentence("The code length of the labels was measured online.", ("code",))
    baselines = [name for name, one in summary["baselines"].items() if one is not None]
    if baselines:
        yield Sentence(f"Baselines: {', '.join(baselines)}.")
    if run.untrained and run.untrained.score:
        yield Sentence("The same model with random weights was probed on the same rows.")


def _answers(run: PageRun) -> Iterator[Sentence]:
    says = run.summary["says"]
    if says is None:
        return
    cites = ("corrected",) if says["score"] == "corrected" else ()
    if any(score.lens for score in run.scores):
        text = "The logit lens reads answers from each layer through the final norm and the head."
        yield Sentence(text, ("lens",))
    yield Sentence(
        f"The model's own answer is the option with {_OPTION_SCORES[says['score']]}.", cites
    )
