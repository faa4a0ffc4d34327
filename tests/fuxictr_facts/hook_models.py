"""Models as FuxiCTR's users write them, each with one method of the training overridden.

The file runs unchanged with FuxiCTR 2.3.10 and here.
"""

import torch
from torch import nn

from fuxictr.pytorch.layers import FeatureEmbedding, LogisticRegression, MLP_Block
from fuxictr.pytorch.models import BaseModel


class Plain(BaseModel):
    """Embeddings, a linear part and an MLP."""

    def __init__(
        self,
        feature_map,
        model_id="Plain",
        gpu=-1,
        learning_rate=1e-3,
        embedding_dim=4,
        hidden_units=(16,),
        embedding_regularizer=None,
        net_regularizer=None,
        **kwargs,
    ):
        super().__init__(
            feature_map,
            model_id=model_id,
            gpu=gpu,
            embedding_regularizer=embedding_regularizer,
            net_regularizer=net_regularizer,
            **kwargs,
        )
        self.embedding_layer = FeatureEmbedding(feature_map, embedding_dim)
        self.lr_layer = LogisticRegression(feature_map)
        self.mlp = MLP_Block(
            input_dim=feature_map.num_fields * embedding_dim,
            output_dim=1,
            hidden_units=list(hidden_units),
            hidden_activations="ReLU",
        )
        self.add_layers()
        self.compile(kwargs["optimizer"], kwargs["loss"], learning_rate)
        self.reset_parameters()
        self.model_to_device()

    def add_layers(self):
        """For classes with more layers."""

    def forward(self, inputs):
        X = self.get_inputs(inputs)
        feature_emb = self.embedding_layer(X)
        logit = self.lr_layer(X) + self.mlp(feature_emb.flatten(start_dim=1))
        return {"y_pred": self.output_activation(logit), "feature_emb": feature_emb}


class AddLoss(Plain):
    def add_loss(self, return_dict, y_true):
        y_pred = return_dict["y_pred"]
        return self.loss_fn(y_pred, y_true, reduction="mean") + 3 * (y_pred - 0.5).square().mean()


class ComputeLoss(Plain):
    def compute_loss(self, return_dict, y_true):
        loss = super().compute_loss(return_dict, y_true)
        return loss + 50 * return_dict["feature_emb"].square().sum(dim=-1).mean()


class RegularizationLoss(Plain):
    def regularization_loss(self):
        return 0.05 * sum(p.abs().sum() for n, p in self.named_parameters() if "mlp" in n)


class GetLabels(Plain):
    def get_labels(self, inputs):
        return 1 - super().get_labels(inputs)


class TrainStep(Plain):
    def train_step(self, batch_data):
        self.optimizer.zero_grad()
        return_dict = self.forward(batch_data)
        loss = 0.01 * self.compute_loss(return_dict, self.get_labels(batch_data))
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters(), self._max_gradient_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = 2e-4
        self.optimizer.step()
        return loss


class Evaluate(Plain):
    def evaluate(self, data_generator, metrics=None):
        logs = super().evaluate(data_generator, metrics=metrics)
        return {name: value / 2 for name, value in logs.items()}


class LrDecay(Plain):
    def lr_decay(self, factor=0.1, min_lr=1e-6):
        return super().lr_decay(factor=1.0, min_lr=min_lr)


class Gate(nn.Module):
    def __init__(self, num_fields):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_fields))

    def init_weights(self):
        nn.init.constant_(self.weight, 20.0)

    def forward(self, feature_emb):
        return feature_emb * self.weight.view(1, -1, 1)


class InitWeights(Plain):
    """Without its init_weights the gate stays closed."""

    def add_layers(self):
        self.gate = Gate(self.feature_map.num_fields)

    def forward(self, inputs):
        X = self.get_inputs(inputs)
        hidden = self.gate(self.embedding_layer(X)).flatten(start_dim=1)
        return {"y_pred": self.output_activation(self.mlp(hidden))}


class OwnOptimizer(Plain):
    def compile(self, optimizer, loss, lr):
        super().compile(optimizer, loss, lr)
        self.optimizer = torch.optim.SGD(self.parameters(), lr=0.5)


CLASSES = (
    Plain,
    AddLoss,
    ComputeLoss,
    RegularizationLoss,
    GetLabels,
    TrainStep,
    Evaluate,
    LrDecay,
    InitWeights,
    OwnOptimizer,
)
