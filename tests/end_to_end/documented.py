"""The code blocks of README.md and of docs/, and for each what a test does with it.

A block that is not named here fails tests/end_to_end/test_documented.py, and so does a name here
that no page has: a new command is run by a test, or stands below with the reason why it is not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from fuxictr.experiment.zoo.models import ROOT

PAGES = ("README.md", *sorted(p.relative_to(ROOT).as_posix() for p in ROOT.glob("docs/**/*.md")))
# Kinds of blocks that hold no commands and no code.
NO_CODE = ("", "math", "bibtex", "mermaid")


@dataclass(frozen=True)
class Block:
    """One fenced block of a page: the ``number``-th of its kind there."""

    page: str
    kind: str
    number: int
    text: str

    @property
    def name(self) -> str:
        """As ``README.md:bash:3``."""
        return f"{self.page}:{self.kind}:{self.number}"

    @property
    def commands(self) -> list[str]:
        """The commands of a bash block, without comments, continued lines joined."""
        joined = re.sub(r"\\\n\s*", "", self.text)
        lines = [re.sub(r"(^|\s+)#.*", "", line).strip() for line in joined.splitlines()]
        return [line for line in lines if line]


def find_blocks(kind: str | None = None) -> list[Block]:
    """Returns the blocks of all pages, in the order of reading; null = of every kind."""
    found, counts = [], {}
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        for name, body in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.S | re.M):
            number = counts[page, name] = counts.get((page, name), -1) + 1
            found.append(Block(page, name, number, body))
    return [block for block in found if kind in (None, block.kind)]


@dataclass(frozen=True)
class Run:
    """How a command is run: after which preparations, and whether only with ``--all``.

    The preparations are those of test_documented.py: ``demo`` (a small demo log lies in data/),
    ``demo_run`` (one run of it), ``own`` (the example of README.md with its files), ``MyModel``
    (the example of docs/add_a_backbone.md), ``new_rows`` (new.csv, of the demo log).
    """

    needs: tuple[str, ...] = ("demo",)
    slow: bool = False


SLOW = Run(slow=True)
OF_RUN, OWN = Run(("demo", "demo_run")), Run(("own",))
_SHOW = "python -m fuxictr show"
_TRAIN = "python model_zoo/DeepFM/run_expid.py"
RUN = {
    # test_pipeline.py runs these two as well, in every run of the tests.
    "bash 2.reproduce.sh": SLOW,
    "bash 3.analyze.sh": SLOW,
    f"{_TRAIN} --config my_config --expid DeepFM_mine_gen --gpu auto": OWN,
    "python predict.py --model DeepFM --config my_config --expid DeepFM_mine_gen --data new.csv "
    "--out scores.parquet": OWN,
    "python predict.py --model DeepFM --expid DeepFM_demo_gen --data new.csv --out scores.parquet "
    "--gpu -1": Run(("demo", "demo_run", "new_rows")),
    "python predict.py --checkpoint my_config/checkpoints/my_clicks/DeepFM_mine_gen.model --data "
    "new.csv --out scores.parquet --gpu -1": OWN,
    _SHOW: OF_RUN,
    f"{_SHOW} DeepFM_demo_gen": OF_RUN,
    f"{_SHOW} last --verify": Run(OF_RUN.needs, slow=True),
    f"{_SHOW} DeepFM_demo_gen --verify": Run(OF_RUN.needs, slow=True),
    f"{_TRAIN} --expid DeepFM_demo_gen --resume": SLOW,
    f"{_TRAIN} --expid DeepFM_demo_gen --gpu -1 --seed 7 --set learning_rate=1e-4 gamma=3": SLOW,
    "bash 1.prepare.sh demo --rows 1000000": Run((), slow=True),
    "bash 2.reproduce.sh --model DeepFM --dataset demo --seeds 3": SLOW,
    "bash 2.reproduce.sh --model FM,CrossNet --dataset demo": SLOW,
    "bash 2.reproduce.sh --ablation target --dataset demo": SLOW,
    "bash 2.reproduce.sh --model MyModel --dataset demo --ablation source,activation": Run(
        ("demo", "MyModel"), slow=True
    ),
    "bash 2.reproduce.sh --paper --dry-run": SLOW,
    "python benchmarks/scaling/formulas.py --expid DeepFM_avazu_gen --ranks 1,2,8,64": SLOW,
}

_NETWORK = "downloads"
_DATA = "needs the whole Avazu or Criteo log"
_GPUS = "needs GPUs, several machines or both"
_HOURS = "runs for hours"
_PEER = "measures for long, most of it beside another framework's environment"
_SEARCH = "needs a tuner file; test_autotuner.py has one"
# Start of a command -> why no test runs it.
NOT_RUN = {
    "pip install ": _NETWORK,
    "bash 1.prepare.sh": _NETWORK,
    "bash 1.prepare.sh frappe_x1 movielenslatest_x1": _NETWORK,
    "bash 1.prepare.sh avazu criteo": _NETWORK,
    "HF_ENDPOINT=https://a.mirror bash 1.prepare.sh avazu": _NETWORK,
    "bash 2.reproduce.sh --model FM,DeepFM,DCNv2 --dataset frappe": _NETWORK,
    "torchrun ": _GPUS,
    "bash 2.reproduce.sh --dataset avazu --gpus 0,1,2,3": _GPUS,
    "bash 2.reproduce.sh --gpus 0,1,2,3": _GPUS,
    "bash 2.reproduce.sh --gpus 0,1,2,3 --gpus-per-run 2": _GPUS,
    "bash 2.reproduce.sh --gpu 0,1,2,3": _GPUS,
    "bash 2.reproduce.sh --paper": _DATA,
    "bash 2.reproduce.sh --ablation all --dataset avazu --seeds 5": _DATA,
    "bash 3.analyze.sh --report --dataset avazu": _DATA,
    # Parts of them are run by test_sweep.py and test_report.py.
    "bash 2.reproduce.sh --paper --dataset demo": _HOURS,
    "bash 2.reproduce.sh --paper --dataset demo --seeds 3": _HOURS,
    "bash 3.analyze.sh --report --dataset demo": f"needs the sweep above, which {_HOURS}",
    "python scripts/update_results.py": f"needs the sweep above, which {_HOURS}",
    "python run_param_tuner.py ": _SEARCH,
    "python enumerate_param_list.py ": _SEARCH,
    "python benchmarks/scaling/measure.py": _PEER,
    "python benchmarks/scaling/sharding_options.py": _PEER,
    **{
        f"python benchmarks/{name}.py ": _PEER
        for name in (
            *("train_throughput", "build_throughput", "small_experiment", "startup", "load_rows"),
            *("large_run", "sweep", "busy", "peers", "compile_cpu"),
        )
    },
}

# First line of a python block -> the test that runs it, or why none does.
PYTHON = {
    "import torch": "tests/end_to_end/test_contributing.py",
    "# own.py, named by key processor: own.py": "tests/end_to_end/test_documented.py",
    "from fuxictr.features import FeatureMap": "tests/end_to_end/test_fuxictr_loop.py",
    "from fuxictr.experiment.scoring import score": "tests/end_to_end/test_documented.py",
    "gen = self.generator(feature_emb)  # (B, F, D); nn.Identity() for DIS": "lines of a forward",
}

# First line of a yaml block -> the test that uses it.
YAML = {
    "# my_config/dataset_config.yaml": "tests/end_to_end/test_documented.py",
    "criteo_raw:": "tests/preprocess/test_csv_forms.py",
    "# my_config/model_config.yaml": "tests/end_to_end/test_documented.py",
    "task: regression": "tests/end_to_end/test_tasks.py",
    "# dataset_config.yaml": "tests/end_to_end/test_tasks.py",
    "Base: {model: MyModel, model_root: ./checkpoints/}": "tests/end_to_end/test_contributing.py",
    "MyModel_demo_gen_source_own:": "tests/end_to_end/test_contributing.py",
}


def reason_not_run(command: str) -> str | None:
    """Returns why a command is not run; a start that ends in a blank stands for all with it."""
    for start, reason in NOT_RUN.items():
        if command == start.strip() or (start.endswith(" ") and command.startswith(start)):
            return reason
        if command.startswith(f"{start} ") and reason == _PEER:
            return reason
    return None
