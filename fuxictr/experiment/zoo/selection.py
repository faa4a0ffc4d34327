"""What the words of options select: variants, seeds and models."""

from __future__ import annotations

from fuxictr.errors import ConfigError

PAPER_SEEDS = "5"  # the --seeds of --paper


def parse_variants(text: str) -> list[str]:
    """Returns the variants of ``dis,gen``, DIS first; ConfigError at another word."""
    names = set(split_names(text.lower()))
    if not names or names - {"dis", "gen"}:
        raise ConfigError(f"--variants {text}: allowed: dis, gen, or dis,gen")
    return sorted(names)


def parse_seeds(text: str, first: int) -> list[int]:
    """Returns the seeds of ``3`` (three from ``first`` on) or ``2019,2020``, else a ConfigError."""
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
    """Returns the names of ``DeepFM,FM``; ConfigError if there is none."""
    return parse_names(text, "--model")


def parse_names(text: str, option: str) -> list[str]:
    """Returns the names of ``a,b``, each once; ConfigError if there is none."""
    names = split_names(text)
    if not names:
        raise ConfigError(f"{option}: expected a name, or a list a,b")
    return names


def split_names(text: str) -> list[str]:
    """Returns the names of ``a,b``, each once."""
    return list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
