"""torch-rechub on one job of peers.py: its models, DataGenerator and CTRTrainer."""

import peer_watch


def make_network(job):
    """Returns the model of the job."""
    from torch_rechub.basic.features import SparseFeature
    from torch_rechub.basic.initializers import RandomNormal
    from torch_rechub.models.ranking import DCNv2, DeepFM

    features = [
        SparseFeature(
            name,
            vocab_size=size,
            embed_dim=job["embedding_dim"],
            initializer=RandomNormal(0, job["init_std"]),
        )
        for name, size in job["fields"].items()
    ]
    mlp = {"dims": job["hidden_units"], "activation": "relu", "dropout": 0}
    if job["model"] == "DCNv2":
        return DCNv2(features, job["num_cross_layers"], mlp, use_low_rank_mixture=False)
    return DeepFM(deep_features=features, fm_features=features, mlp_params=mlp)


def run(job):
    """Trains and evaluates; returns the figures of the watch."""
    import torch
    from torch_rechub.trainers import CTRTrainer
    from torch_rechub.utils.data import DataGenerator

    torch.manual_seed(job["seed"])
    splits = {
        split: peer_watch.read_split(job["folder"], split, job["fields"], job["label"])
        for split in ("train", "valid", "test")
    }
    (x, y), (x_val, y_val), (x_test, y_test) = splits.values()
    train, valid, test = DataGenerator(x, y).generate_dataloader(
        x_val=x_val, y_val=y_val, x_test=x_test, y_test=y_test, batch_size=job["batch_size"]
    )
    trainer = CTRTrainer(
        make_network(job),
        optimizer_params={"lr": job["learning_rate"]},
        n_epoch=job["epochs"],
        earlystop_patience=job["epochs"],
        device="cpu",
        model_path=job["scratch"],
    )
    watch = peer_watch.Watch(job)
    evaluate = trainer.evaluate
    trainer.evaluate = watch.evaluation(evaluate, job["rows"]["valid"], float)
    watch.fit(trainer.fit, train, valid)
    on_test = watch.evaluation(evaluate, job["rows"]["test"], float)
    auc = peer_watch.evaluate_splits(
        watch,
        lambda: trainer.evaluate(trainer.model, valid),
        lambda: on_test(trainer.model, test),
    )
    return watch.figures(auc, peer_watch.count_parameters(trainer.model))
