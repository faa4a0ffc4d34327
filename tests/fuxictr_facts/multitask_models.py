"""ShareBottom, MMoE and PLE as FuxiCTR's users write them.

The file runs unchanged with FuxiCTR 2.3.10 and here.
"""

import torch
from torch import nn

from fuxictr.pytorch.layers import FeatureEmbedding, MLP_Block
from fuxictr.pytorch.models import MultiTaskModel


class _Tower(MultiTaskModel):
    """Embeddings, what ``build`` makes of them for each task, and a tower for each task."""

    def __init__(
        self,
        feature_map,
        model_id="Tower",
        gpu=-1,
        task="binary_classification",
        num_tasks=1,
        loss_weight="EQ",
        learning_rate=1e-3,
        embedding_dim=4,
        num_experts=3,
        expert_hidden_units=(16, 8),
        tower_hidden_units=(8,),
        embedding_regularizer=None,
        net_regularizer=None,
        **kwargs,
    ):
        super().__init__(
            feature_map,
            task=task,
            loss_weight=loss_weight,
            num_tasks=num_tasks,
            model_id=model_id,
            gpu=gpu,
            embedding_regularizer=embedding_regularizer,
            net_regularizer=net_regularizer,
            **kwargs,
        )
        self.embedding_layer = FeatureEmbedding(feature_map, embedding_dim)
        input_dim = embedding_dim * feature_map.num_fields
        self.build(input_dim, num_experts, list(expert_hidden_units))
        self.towers = nn.ModuleList(
            MLP_Block(
                input_dim=expert_hidden_units[-1],
                output_dim=1,
                hidden_units=list(tower_hidden_units),
                hidden_activations="ReLU",
            )
            for _ in range(num_tasks)
        )
        self.compile(kwargs["optimizer"], kwargs["loss"], learning_rate)
        self.reset_parameters()
        self.model_to_device()

    def forward(self, inputs):
        X = self.get_inputs(inputs)
        hidden = self.share(self.embedding_layer(X).flatten(start_dim=1))
        logits = [tower(h) for tower, h in zip(self.towers, hidden, strict=True)]
        y_pred = [act(logit) for act, logit in zip(self.output_activation, logits, strict=True)]
        labels = self.feature_map.labels
        return {f"{labels[i]}_pred": y_pred[i] for i in range(self.num_tasks)}


def _expert(input_dim, hidden_units):
    return MLP_Block(input_dim=input_dim, hidden_units=hidden_units, hidden_activations="ReLU")


class ShareBottom(_Tower):
    """One network below all towers (Caruana, 1997)."""

    def build(self, input_dim, num_experts, hidden_units):
        self.bottom = _expert(input_dim, hidden_units)

    def share(self, flat):
        return [self.bottom(flat)] * self.num_tasks


class MMoE(_Tower):
    """h_t = sum_e softmax(W_t x)_e f_e(x) (Ma et al., KDD 2018)."""

    def build(self, input_dim, num_experts, hidden_units):
        self.experts = nn.ModuleList(_expert(input_dim, hidden_units) for _ in range(num_experts))
        self.gates = nn.ModuleList(nn.Linear(input_dim, num_experts) for _ in range(self.num_tasks))

    def share(self, flat):
        experts = torch.stack([expert(flat) for expert in self.experts], dim=1)
        weights = [gate(flat).softmax(dim=-1).unsqueeze(-1) for gate in self.gates]
        return [(weight * experts).sum(dim=1) for weight in weights]


class PLE(_Tower):
    """One level of CGC: shared experts, and experts of each task alone (Tang et al., 2020)."""

    def build(self, input_dim, num_experts, hidden_units):
        self.shared = nn.ModuleList(_expert(input_dim, hidden_units) for _ in range(num_experts))
        self.own = nn.ModuleList(
            nn.ModuleList(_expert(input_dim, hidden_units) for _ in range(num_experts))
            for _ in range(self.num_tasks)
        )
        self.gates = nn.ModuleList(
            nn.Linear(input_dim, 2 * num_experts) for _ in range(self.num_tasks)
        )

    def share(self, flat):
        shared = [expert(flat) for expert in self.shared]
        found = []
        for own, gate in zip(self.own, self.gates, strict=True):
            experts = torch.stack([*(expert(flat) for expert in own), *shared], dim=1)
            found.append((gate(flat).softmax(dim=-1).unsqueeze(-1) * experts).sum(dim=1))
        return found


CLASSES = (ShareBottom, MMoE, PLE)
