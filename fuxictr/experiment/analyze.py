"""analyze.py and 3.analyze.sh: checkpoints -> recorded embeddings -> figures."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fuxictr.config import ExperimentConfig
from fuxictr.errors import CheckpointError, DataError, run_cli
from fuxictr.experiment.options import (
    add_gpu_option,
    add_sweep_options,
    parse_models,
    parse_variants,
)
from fuxictr.experiment.reproduce import default_dataset
from fuxictr.experiment.zoo import ROOT, backbones, find_folder, load_experiment, select_expids

if TYPE_CHECKING:
    import torch

    from fuxictr.features import FeatureMap
    from fuxictr.pytorch.dataloaders import BatchIterator
    from fuxictr.pytorch.models import BaseModel

NUM_ROWS = 50_000
SEED = 2019
# Rows of one forward pass: the sample is recorded in pieces, to bound the activations in memory.
_PASS_ROWS = 10_000


def main(argv: list[str] | None = None) -> None:
    """Records the embeddings of one trained expid (analyze.py)."""
    parser = argparse.ArgumentParser(
        prog="analyze.py", description="Record the embeddings of a trained expid."
    )
    parser.add_argument("--model", required=True, help="a folder of model_zoo/")
    parser.add_argument("--expid", required=True, help="the trained experiment")
    parser.add_argument("--config", default="./config/", help="config folder (default ./config/)")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE")
    parser.add_argument(
        "--rows", type=int, default=NUM_ROWS, help="validation rows (default 50000)"
    )
    parser.add_argument("--seed", type=int, default=SEED, help="seed of the sample (default 2019)")
    add_gpu_option(parser)
    args = parser.parse_args(argv)

    def run() -> None:
        folder = find_folder(args.model)
        config, model_class = load_experiment(args.expid, folder, args.config, args.set)
        path = record_embeddings(config, model_class, args.model, args.gpu, args.rows, args.seed)
        print(f"Recorded: {path}")

    run_cli(run)


def main_all(argv: list[str] | None = None) -> None:
    """Records DIS and GEN, draws the figures and prints the summary (3.analyze.sh)."""
    parser = argparse.ArgumentParser(
        prog="3.analyze.sh",
        description="Record the embeddings of trained models and draw spectra and correlations.",
    )
    add_sweep_options(parser)
    args = parser.parse_args(argv)
    run_cli(lambda: _analyze_all(args))


def record_embeddings(
    config: ExperimentConfig,
    model_class: type,
    backbone: str,
    gpu: int | str = "auto",
    num_rows: int = NUM_ROWS,
    seed: int = SEED,
) -> Path:
    """Records one shuffled sample of validation rows in eval mode; returns the HDF5 file.

    Args:
        config: the checked config of a trained expid.
        model_class: its model.
        backbone: the name that figures show.
        gpu: where to run, as --gpu.
        num_rows: rows of the sample, or all there are.
        seed: seed of the sample.

    Raises:
        CheckpointError: the expid is not trained yet, or its checkpoint does not fit.
    """
    if not config.checkpoint_path.is_file():
        raise CheckpointError(
            f"{config.checkpoint_path}: no such checkpoint; train first: python "
            f"model_zoo/{config.run.model}/run_expid.py --expid {config.expid} --gpu {gpu}"
        )
    if num_rows < 2:
        raise DataError(f"--rows {num_rows}: allowed: >= 2")

    from fuxictr.analysis.records import RecordMeta, records_path, save_records
    from fuxictr.experiment.run import build_model, load_dataset, select_features
    from fuxictr.files import file_sha256
    from fuxictr.preprocess import find_built
    from fuxictr.pytorch.checkpoint import load_weights
    from fuxictr.pytorch.dataloaders import BatchIterator, read_encoded
    from fuxictr.pytorch.torch_utils import get_device

    device = get_device(gpu)
    # The rows that it was trained on, never built anew.
    encoded = (
        load_dataset(config)
        if config.dataset.is_encoded
        else find_built(config.dataset, config.data_dir)[1]
    )
    if "valid" not in encoded.paths:
        raise DataError(f"dataset '{config.dataset.dataset_id}' has no validation split to analyse")
    feature_map = select_features(config, encoded)
    model = build_model(config, model_class, feature_map)
    load_weights(model, config.checkpoint_path, encoded.encoders_hash)
    rows = read_encoded(encoded.paths["valid"], feature_map)
    sample = BatchIterator(rows, min(num_rows, rows.num_rows), shuffle=True, seed=seed)
    arrays = _record(model.to(device), sample, device)
    fields, width = _recorded_fields(arrays, feature_map, config.expid)
    meta = RecordMeta(
        model=backbone,
        expid=config.expid,
        variant=config.variant,
        dataset_id=config.dataset.dataset_id,
        split="valid",
        num_rows=sample.batch_size,
        seed=seed,
        fields=fields,
        embedding_dim=width,
        checkpoint_sha256=file_sha256(config.checkpoint_path),
    )
    path = records_path(ROOT, meta.dataset_id, meta.expid)
    save_records(path, arrays, meta)
    return path


def _recorded_fields(
    arrays: dict[str, Any], feature_map: FeatureMap, expid: str
) -> tuple[tuple[str, ...], int]:
    """Returns the fields and the width of each, as the first record gen or feature_emb has them.

    Fields of different widths were recorded as one long vector: one field of that width.
    """
    fields = tuple(feature_map.fields)
    for key, array in arrays.items():
        if key.rpartition("/")[2] in ("gen", "feature_emb"):
            size = int(array[0].size)
            is_even = array.ndim == 2 or array.shape[1] == len(fields)
            return (fields, size // len(fields)) if is_even else (("all fields",), size)
    raise CheckpointError(
        f"expid '{expid}': its model records neither 'gen' nor 'feature_emb', but "
        f"{', '.join(arrays) or 'nothing'}; see the record contract in README.md"
    )


def _record(model: BaseModel, sample: BatchIterator, device: torch.device) -> dict[str, Any]:
    import torch

    from fuxictr.analysis.recorder import Recorder
    from fuxictr.pytorch.batch import Batch

    batch = next(iter(sample))
    model.eval()
    with torch.inference_mode(), Recorder(model) as recorder:
        for start in range(0, batch.num_rows, _PASS_ROWS):
            rows = slice(start, start + _PASS_ROWS)
            model(Batch(batch.layout, batch.ids[rows], batch.values_matrix[rows]).to(device))
        return recorder.collect()


def _analyze_all(args: argparse.Namespace) -> None:
    models, variants = parse_models(args.model), parse_variants(args.variants)
    dataset = args.dataset or default_dataset()
    for model in backbones(dataset) if models == ["all"] else models:
        choices = select_expids(model, dataset, variants)
        for choice in choices:
            config, model_class = load_experiment(choice.expid, choice.folder)
            print(f"Recording {choice.expid} ...", flush=True)
            record_embeddings(config, model_class, model, args.gpu)
        _draw(model, config.dataset.dataset_id, [choice.expid for choice in choices])


def _draw(model: str, dataset_id: str, expids: list[str]) -> None:
    from fuxictr.plotting.paper import load_runs, write_collapse, write_correlation, write_summary

    print(f"Drawing {model} on {dataset_id} ...", flush=True)
    records = load_runs(ROOT, dataset_id, expids, model)
    paths = write_collapse(ROOT, dataset_id, model, records)
    paths += write_correlation(ROOT, dataset_id, model, records)
    table, summary_path = write_summary(ROOT, dataset_id, model, records)
    print(f"\n{table}\n")
    for path in [*paths, summary_path]:
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main_all()
