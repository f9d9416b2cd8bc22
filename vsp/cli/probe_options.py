"""Options of `vsp probe` that are settings of the fits and of their statistics."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsp.choices import ANSWER_SCORES, DEFAULT_PROBE
from vsp.cli.arguments import add_drop_label, add_over, add_seed, at_least, positive_number
from vsp.probes import PROBES
from vsp.probes.names import ERASURES, METRIC_NAMES, SPLIT_BY, TREATMENTS

if TYPE_CHECKING:
    from vsp.evaluation.probe_settings import ProbeSettings


def add_probe_options(parser: argparse.ArgumentParser) -> None:
    _add_probe(parser)
    _add_score(parser)
    _add_fit(parser)
    _add_split(parser)
    _add_statistics(parser)
    _add_left_out(parser)


def _add_probe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--probe",
        default=DEFAULT_PROBE,
        metavar="NAME",
        help=f"{', '.join(PROBES.own_names())} (default: {DEFAULT_PROBE}); sklearn is scikit-learn's one-vs-rest "
        "logistic regression. Or a class with fit and predict as in scikit-learn: FILE.py:CLASS, whose "
        "code is then executed, or PACKAGE.MODULE:CLASS",
    )
    parser.add_argument(
        "--probe-option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter of the class that --probe names, as n_neighbors=5; may be repeated",
    )
    parser.add_argument(
        "--treatment",
        choices=TREATMENTS,
        help="preprocessing of the states, learned from the training rows (default: the probe's "
        "own)",
    )
    parser.add_argument(
        "--erase",
        choices=ERASURES,
        help="take out of the states what a linear probe reads on the training rows (leace), the weights "
        "of several classifiers (inlp), or a random subspace; the eraser is fitted on the training rows "
        "of each fit",
    )
    parser.add_argument(
        "--erase-rank",
        type=at_least(1),
        default=0,
        metavar="N",
        help="dimensions that --erase inlp or random takes out (default: 8 rounds of inlp; as many as "
        "leace for random)",
    )
    parser.add_argument(
        "--grid",
        type=positive_number,
        nargs="+",
        default=(),
        metavar="X",
        help="values of the probe's C or alpha; one is chosen by cross-validation on the training "
        "rows (default: the probe's own, which may depend on the size of a layer's states)",
    )


def _add_score(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--metric",
        choices=("auto", *METRIC_NAMES),
        default="auto",
        help="what chooses C and layer and is reported: accuracy, balanced (mean recall of the "
        "labels), auc (mean over labels of the area under the ROC curve) or log-loss (default: auto, "
        "balanced if a label has less than half of its share, otherwise accuracy; R² for numbers)",
    )
    parser.add_argument(
        "--class-weight",
        choices=("auto", "none", "balanced"),
        default="auto",
        help="balanced gives each label the same weight in the fit (default: auto, balanced with "
        "--metric balanced)",
    )
    parser.add_argument(
        "--answer-score",
        choices=ANSWER_SCORES,
        default="total",
        help="what chooses the model's own answer among the options of a row, if the run stores "
        "answers: their log-likelihood, that per token or character, or corrected: minus that with a "
        "blank picture, from a run of the variant blank (default: %(default)s)",
    )


def _add_fit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tolerance",
        type=positive_number,
        default=0.0,
        metavar="X",
        help="relative duality gap at which a fit stops (default: the probe's own)",
    )
    parser.add_argument(
        "--max-iter",
        type=at_least(1),
        default=0,
        metavar="N",
        help="most iterations of a fit; fits that need more are counted as not converged "
        "(default: the probe's own)",
    )


def _add_split(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--split-by",
        choices=SPLIT_BY,
        default=SPLIT_BY[0],
        help="what the folds hold out: images (groups), ordered pairs of names, or names; pairs and "
        "names replace the dataset's own split (default: %(default)s)",
    )
    parser.add_argument(
        "--folds",
        type=at_least(2),
        default=5,
        metavar="N",
        help="number of folds (default: %(default)s); a dataset with train, val and test rows has none",
    )
    parser.add_argument(
        "--repeats",
        type=at_least(1),
        default=2,
        metavar="N",
        help="repetitions of cross-validation, if the dataset has no split of its own (default: "
        "%(default)s)",
    )


def _add_statistics(parser: argparse.ArgumentParser) -> None:
    for name, default, what in (
        ("--permutations", 100, "refits with permuted labels, for p values; 0: none"),
        ("--controls", 5, "tasks of each control, for selectivity and capacity; 0: none"),
    ):
        parser.add_argument(
            name,
            type=at_least(0),
            default=default,
            metavar="N",
            help=f"{what} (default: {default})",
        )
    add_seed(parser, "folds, permutations and resamples")
    parser.add_argument(
        "--resamples",
        type=at_least(1),
        default=2000,
        metavar="N",
        help="bootstrap resamples of groups, for confidence intervals (default: %(default)s)",
    )
    add_over(parser, "by 100 refits on resamples of them")


def _add_left_out(parser: argparse.ArgumentParser) -> None:
    add_drop_label(parser)
    parser.add_argument(
        "--no-curve", action="store_true", help="skip the learning curve and online code length"
    )
    parser.add_argument(
        "--no-random",
        action="store_true",
        help="skip the baseline on random features, which results of the untrained model "
        "(`vsp plan --weights random`) replace",
    )
    parser.add_argument(
        "--no-words", action="store_true", help="skip the baselines on names, words and boxes"
    )


def probe_settings(arguments: argparse.Namespace, position: str) -> ProbeSettings:
    """The settings that the options of `add_probe_options` describe, for states at a position."""
    from vsp.evaluation.probe_settings import ProbeSettings

    return ProbeSettings(
        **_own_code(arguments),
        treatment=arguments.treatment or "",
        position=position,
        erase=arguments.erase or "",
        erase_rank=arguments.erase_rank,
        strengths=tuple(arguments.grid),
        metric=arguments.metric,
        class_weight=arguments.class_weight,
        tolerance=arguments.tolerance,
        max_iter=arguments.max_iter,
        split_by=arguments.split_by,
        folds=arguments.folds,
        repeats=arguments.repeats,
        permutations=arguments.permutations,
        controls=arguments.controls,
        curve=not arguments.no_curve,
        random=not arguments.no_random,
        words=not arguments.no_words,
        seed=arguments.seed,
        over_training=arguments.over == "training",
        resamples=arguments.resamples,
        drop_labels=tuple(arguments.drop_label),
        answer_score=arguments.answer_score,
    )


def _own_code(arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings that say what is fitted: a probe of vsp, or a class that the user names."""
    from vsp.probes.own_code import absolute_name, code_version, is_own, read_options

    options = read_options(arguments.probe_option)
    if not is_own(arguments.probe):
        return {"probe": arguments.probe, "probe_options": options}
    probe = absolute_name(arguments.probe, Path())
    return {"probe": probe, "probe_options": options, "probe_code": code_version(probe)}
