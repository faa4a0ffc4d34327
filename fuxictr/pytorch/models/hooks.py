"""Methods of FuxiCTR's BaseModel that a model's class overrides, and what training makes of them.

A class written for FuxiCTR may change how it is trained by overriding a method that FuxiCTR's fit
calls. Each such method is called here as well, or is an error that says what to write instead.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from fuxictr.config import TrainConfig
from fuxictr.errors import ConfigError

_PYTHON_LOOP = "call it in a Python loop of your own (docs/from_fuxictr.md)"


@dataclass(frozen=True)
class Hook:
    """A method that training or evaluation calls.

    Attributes:
        call: how it is called, as messages write it.
        num_arguments: positional arguments of the call; ``keywords`` are the others.
        changes: what its override changes: data, loss, step, or loop.
        instead: what to write in its place; empty: the override is called.
    """

    call: str
    num_arguments: int
    changes: str
    instead: str = ""
    keywords: tuple[str, ...] = ()


HOOKS = {
    "get_labels": Hook("get_labels(inputs)", 1, "data"),
    "get_group_id": Hook("get_group_id(inputs)", 1, "data"),
    "add_loss": Hook("add_loss(return_dict, y_true)", 2, "loss"),
    "compute_loss": Hook("compute_loss(return_dict, y_true)", 2, "loss"),
    "regularization_loss": Hook("regularization_loss()", 0, "loss"),
    "train_step": Hook("train_step(batch_data)", 1, "step"),
    "evaluate": Hook("evaluate(data_generator, metrics=None)", 1, "loop", keywords=("metrics",)),
    "evaluate_metrics": Hook("evaluate_metrics(y_true, y_pred, metrics, group_id)", 4, "loop"),
    "predict": Hook("predict(data_generator)", 1, "loop"),
    "lr_decay": Hook("lr_decay()", 0, "loop"),
    "fit": Hook("fit(data_generator)", 1, "loop", f"override train_step, or {_PYTHON_LOOP}"),
    "train_epoch": Hook(
        "train_epoch(data_generator)", 1, "loop", f"override train_step, or {_PYTHON_LOOP}"
    ),
    "eval_step": Hook("eval_step()", 0, "loop", "override evaluate"),
    "checkpoint_and_earlystop": Hook(
        "checkpoint_and_earlystop(logs)",
        1,
        "loop",
        "override evaluate to change what is monitored, lr_decay to change the rate; keys monitor, "
        "early_stop_patience and save_best_only say the rest",
    ),
    "save_weights": Hook(
        "save_weights(checkpoint)", 1, "loop", "torch's get_extra_state and set_extra_state"
    ),
    "load_weights": Hook(
        "load_weights(checkpoint)", 1, "loop", "torch's get_extra_state and set_extra_state"
    ),
}
# Attributes that FuxiCTR's fit reads -> the config's key that says the same here.
CONFIG_ATTRIBUTES = {
    "_monitor": "monitor",
    "_monitor_mode": "monitor_mode",
    "_early_stop_patience": "early_stop_patience",
    "_eval_steps": "eval_steps",
    "_save_best_only": "save_best_only",
    "_reduce_lr_on_plateau": "reduce_lr_on_plateau",
    "_verbose": "verbose",
    "validation_metrics": "metrics",
}


def overridden(model: Any, base: type, config: TrainConfig) -> list[str]:
    """Returns the hooks that a model has not from ``base``, in the order of HOOKS.

    A class between, a mixin or the model itself may hold them. ``loss_fn`` and ``optimizer`` are
    among them where the class has made others than the config says.
    """
    found = [name for name in HOOKS if _function(model, name) is not getattr(base, name, None)]
    return [*found, *model.own_training(config)]


def check_hooks(model: nn.Module, names: list[str], called: tuple[str, ...] = ()) -> None:
    """Raises ConfigError for an override that cannot be called, with all that is wrong.

    ``called`` are hooks that the caller is inside of, such as fit.
    """
    kind = type(model).__name__
    problems = []
    for name in names:
        hook = HOOKS.get(name)
        if hook is None or name in called:
            continue
        if hook.instead:
            problems.append(f"{kind} overrides {name}, which is not called here: {hook.instead}")
        elif not _takes(getattr(model, name), hook):
            found = f"{name}{inspect.signature(getattr(model, name))}"
            problems.append(f"{kind} overrides {name} as {found}; allowed: {hook.call}")
    if problems:
        raise ConfigError("; ".join(problems))


def changes(names: list[str], *kinds: str) -> list[str]:
    """Returns those of the hooks that change one of ``kinds``; see Hook."""
    loss = {"loss_fn": "loss", "optimizer": "step"}
    return [n for n in names if (HOOKS[n].changes if n in HOOKS else loss[n]) in kinds]


def _function(model: nn.Module, name: str) -> Any:
    """Returns the function that ``model.name(...)`` calls, without its instance."""
    method = getattr(model, name, None)
    return getattr(method, "__func__", method)


def _takes(function: Callable[..., Any], hook: Hook) -> bool:
    try:
        named = dict.fromkeys(hook.keywords)
        inspect.signature(function).bind(*[None] * hook.num_arguments, **named)
    except TypeError:
        return False
    return True
