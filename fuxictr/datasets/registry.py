"""The raw datasets that 1.prepare.sh knows, and where their files are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fuxictr.errors import ConfigError, did_you_mean

SPLITS = ("train", "valid", "test")
PAPER_DATASETS = ("avazu", "criteo")  # what the paper trains on, as --dataset
GROUND_TRUTH = "ground_truth.json"


@dataclass(frozen=True)
class RawDataset:
    """One dataset of raw csv files.

    Attributes:
        name: its name at the source, as Avazu_x4; "demo" for the generated one.
        family: folder under data/.
        dataset_id: folder under the family, and block of dataset_config.yaml.
        md5: md5 of train.csv, valid.csv and test.csv; empty for generated data.
        num_features: ids of all fields with the paper's config, one per numeric field; 0 = unknown.
        vocab_sizes: categorical field -> its number of ids, padding and OOV included.
        min_categr_count: threshold of the paper's config, to which the sizes belong.
    """

    name: str
    family: str
    dataset_id: str
    md5: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    rows: tuple[int, ...] = ()
    num_features: int = 0
    vocab_sizes: Mapping[str, int] = field(default_factory=dict, hash=False)
    min_categr_count: int = 1

    @property
    def num_values(self) -> dict[str, int]:
        """Field -> its number of values, without padding and OOV."""
        return {name: size - 2 for name, size in self.vocab_sizes.items()}


_AVAZU_SIZES = {
    "hour": 26, "C1": 9, "banner_pos": 9, "site_id": 4051, "site_domain": 5461,
    "site_category": 27, "app_id": 6545, "app_domain": 400, "app_category": 33,
    "device_id": 820509, "device_ip": 2903322, "device_model": 7259, "device_type": 7,
    "device_conn_type": 6, "C14": 2556, "C15": 10, "C16": 11, "C17": 434, "C18": 6, "C19": 70,
    "C20": 173, "C21": 62, "weekday": 9, "weekend": 4,
}  # fmt: skip
_CRITEO_SIZES = {
    "C1": 1462, "C2": 560, "C3": 413424, "C4": 248543, "C5": 307, "C6": 23, "C7": 12192, "C8": 635,
    "C9": 5, "C10": 54712, "C11": 5350, "C12": 409749, "C13": 3182, "C14": 29, "C15": 12500,
    "C16": 365811, "C17": 12, "C18": 4934, "C19": 2096, "C20": 6, "C21": 397981, "C22": 20,
    "C23": 17, "C24": 88608, "C25": 98, "C26": 64073,
}  # fmt: skip

DATASETS = (
    RawDataset("demo", "Demo", "demo_x1"),
    RawDataset(
        "Avazu_x4", "Avazu", "avazu_x4_3bbbc4c9",
        ("de3a27264cdabf66adf09df82328ccaa", "33232931d84d6452d3f956e936cab2c9",
         "3ebb774a9ca74d05919b84a3d402986d"),
        ("avazu",), (32_343_172, 4_042_897, 4_042_898),
        sum(_AVAZU_SIZES.values()), _AVAZU_SIZES, min_categr_count=2,
    ),
    RawDataset(
        "Criteo_x1", "Criteo", "criteo_x1_7b681156",
        ("30b89c1c7213013b92df52ec44f52dc5", "f73c71fb3c4f66b6ebdfa032646bea72",
         "2c48b26e84c04a69b948082edae46f8c"),
        ("criteo",), (33_003_326, 8_250_124, 4_587_167),
        sum(_CRITEO_SIZES.values()) + 13, _CRITEO_SIZES,  # 13 numeric fields
    ),
    RawDataset(
        "Avazu_x1", "Avazu", "avazu_x1",
        ("f1114a07aea9e996842c71648e0f6395", "d9568f246357d156c4b8030fadb8b623",
         "9e2fe9c48705c9315ae7a0953eb57acf"),
    ),
    RawDataset(
        "Criteo_x4", "Criteo", "criteo_x4",
        ("4a53bb7cbc0e4ee25f9d6a73ed824b1a", "fba5428b22895016e790e2dec623cb56",
         "cfc37da0d75c4d2d8778e76997df2976"),
    ),
    RawDataset(
        "Frappe_x1", "Frappe", "frappe_x1",
        ("ba7306e6c4fc19dd2cd84f2f0596d158", "88d51bf2173505436d3a8f78f2a59da8",
         "3470f6d32713dc5f7715f198ca7c612a"),
        ("frappe",),
    ),
    RawDataset(
        "MovielensLatest_x1", "Movielens", "movielenslatest_x1",
        ("efc8bceeaa0e895d566470fc99f3f271", "e1930223a5026e910ed5a48687de8af1",
         "54e8c6baff2e059fe067fb9b69e692d0"),
        ("movielens",),
    ),
)  # fmt: skip

_BY_NAME = {
    name.lower(): dataset
    for dataset in DATASETS
    for name in (dataset.name, dataset.dataset_id, *dataset.aliases)
}


def is_known(name: str) -> bool:
    """Returns whether 1.prepare.sh can prepare a dataset of this name."""
    return name.lower() in _BY_NAME


def resolve(name: str) -> RawDataset:
    """Returns the dataset of a name, an alias or a dataset_id, in any case; else ConfigError."""
    if not is_known(name):
        allowed = sorted({d.aliases[0] if d.aliases else d.name.lower() for d in DATASETS})
        raise ConfigError(
            f"dataset '{name}': allowed: {', '.join(allowed)}{did_you_mean(name.lower(), _BY_NAME)}"
        )
    return _BY_NAME[name.lower()]


def dataset_id_of(name: str) -> str:
    """Returns the dataset_id of a known name; another name already is a user's dataset_id."""
    return resolve(name).dataset_id if is_known(name) else name


def alias_of(name: str) -> str:
    """Returns the short name that expids end with: avazu, criteo, demo; else the name itself."""
    if not is_known(name):
        return name
    dataset = resolve(name)
    return dataset.aliases[0] if dataset.aliases else dataset.name.lower()


def raw_dir(root: str | Path, dataset: RawDataset) -> Path:
    """Returns the folder of the raw files: <root>/data/<Family>/<dataset_id>."""
    return Path(root) / "data" / dataset.family / dataset.dataset_id


def is_prepared(root: str | Path, dataset: RawDataset) -> bool:
    """Returns whether the csv files are there, and the ground truth, which is written last."""
    folder = raw_dir(root, dataset)
    names = [f"{split}.csv" for split in SPLITS] + ([] if dataset.md5 else [GROUND_TRUTH])
    return all((folder / n).is_file() and (folder / n).stat().st_size > 0 for n in names)
