"""Command-line options that the commands share."""

from __future__ import annotations

import argparse

from fuxictr.errors import ConfigError

# The --seeds of --paper.
PAPER_SEEDS = "5"


def add_sweep_options(parser: argparse.ArgumentParser) -> None:
    """Adds --model, --dataset, --variants, --seeds and --ablation."""
    parser.add_argument("--model", help="a backbone of model_zoo/, a list a,b, or all")
    parser.add_argument("--default-model", default="DeepFM", help=argparse.SUPPRESS)
    parser.add_argument(
        "--dataset",
        help="avazu, criteo, demo or a dataset_id of the configs "
        "(default: avazu if it is prepared, otherwise the embedded demo data)",
    )
    parser.add_argument("--variants", default="dis,gen", help="dis, gen or both (default dis,gen)")
    parser.add_argument(
        "--seeds",
        help="how many seeds, counted up from the config's own, or a list of them, as 2019,2020 "
        "(a list of one ends in a comma: 7,)",
    )
    parser.add_argument(
        "--ablation", help="the paper's ablations: source, encoder, target, activation, or all"
    )


def add_gpu_option(parser: argparse.ArgumentParser) -> None:
    """Adds --gpu."""
    parser.add_argument(
        "--gpu",
        default="auto",
        help="auto (a GPU if there is one), -1 (CPU), or a GPU's index (default auto)",
    )


def add_rebuild_option(parser: argparse.ArgumentParser) -> None:
    """Adds --rebuild."""
    parser.add_argument(
        "--rebuild",
        action="store_true",
        help="encode the raw data anew, also where an up-to-date encoded dataset is there",
    )


def parse_variants(text: str) -> list[str]:
    """Returns the variants of ``dis,gen``, DIS first.

    Raises:
        ConfigError: another word.
    """
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    wrong = [name for name in names if name not in ("dis", "gen")]
    if wrong or not names:
        raise ConfigError(f"--variants {text}: allowed: dis, gen, or dis,gen")
    return sorted(set(names))


def parse_seeds(text: str, first: int) -> list[int]:
    """Returns the seeds of ``3`` (three from ``first`` on) or of ``2019,2020``.

    Raises:
        ConfigError: not a positive count or a list of numbers.
    """
    try:
        numbers = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        numbers = []
    if "," in text and numbers and min(numbers) >= 0 and max(numbers) < 2**32:
        return list(dict.fromkeys(numbers))
    if "," not in text and numbers and numbers[0] >= 1:
        return [first + i for i in range(numbers[0])]
    raise ConfigError(f"--seeds {text}: allowed: a count >= 1, or a list such as 2019,2020")


def parse_models(text: str) -> list[str]:
    """Returns the names of ``DeepFM,FM``.

    Raises:
        ConfigError: no name.
    """
    return parse_names(text, "--model")


def parse_names(text: str, option: str) -> list[str]:
    """Returns the names of ``a,b``, each once.

    Raises:
        ConfigError: no name.
    """
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise ConfigError(f"{option}: expected a name, or a list a,b")
    return names
