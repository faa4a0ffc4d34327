"""DeepCTR-Torch on one job of peers.py: its models, compile, fit and evaluate."""

import peer_watch


def make_network(job):
    """Returns the model of the job; FM is DeepFM without its MLP."""
    import torch
    from deepctr_torch.inputs import SparseFeat
    from deepctr_torch.models import DCN, DeepFM, xDeepFM

    columns = [
        SparseFeat(name, vocabulary_size=size, embedding_dim=job["embedding_dim"])
        for name, size in job["fields"].items()
    ]
    torch.manual_seed(job["seed"])
    keys = {"l2_reg_linear": 0, "l2_reg_embedding": 0, "dnn_hidden_units": job["hidden_units"]}
    keys |= {"dnn_dropout": 0, "task": "binary", "seed": job["seed"], "device": "cpu"}
    if job["model"] == "DCNv2":
        keys |= {"cross_num": job["num_cross_layers"], "cross_parameterization": "matrix"}
        return DCN(columns, columns, l2_reg_cross=0, **keys)
    if job["model"] == "xDeepFM":
        keys |= {"cin_layer_size": job["cin_units"], "cin_split_half": False}
        return xDeepFM(columns, columns, **keys)
    if job["model"] == "FM":
        keys["dnn_hidden_units"] = ()
    return DeepFM(columns, columns, **keys)


def run(job):
    """Trains and evaluates; returns the figures of the watch.

    ``metrics`` has the AUC, as its documentation shows; fit computes it of every batch, too. The
    test AUC is that of the last epoch's weights, as fit leaves them.
    """
    from torch.optim import Adam

    splits = {
        split: peer_watch.read_split(job["folder"], split, job["fields"], job["label"])
        for split in ("train", "valid", "test")
    }
    network = make_network(job)
    optimizer = Adam(network.parameters(), lr=job["learning_rate"])
    network.compile(optimizer, "binary_crossentropy", metrics=["auc"])
    watch = peer_watch.Watch(job)
    evaluate = network.evaluate
    network.evaluate = watch.evaluation(evaluate, job["rows"]["valid"], _auc)
    batch = job["batch_size"]
    rows, labels = splits["train"]
    watch.fit(
        network.fit,
        rows,
        labels,
        batch_size=batch,
        epochs=job["epochs"],
        verbose=0,
        validation_data=splits["valid"],
    )
    on_test = watch.evaluation(evaluate, job["rows"]["test"], _auc)
    auc = peer_watch.evaluate_splits(
        watch,
        lambda: network.evaluate(*splits["valid"], batch_size=batch),
        lambda: _auc(on_test(*splits["test"], batch_size=batch)),
    )
    return watch.figures(auc, peer_watch.count_parameters(network))


def _auc(metrics):
    return metrics["auc"]
