"""Models as FuxiCTR's users write them, at least one for each of its layers.

The file runs unchanged with FuxiCTR 2.3.10 and here. Fields are a, b, c, d and the sequence s.
"""

from torch import nn

from fuxictr.pytorch import layers
from fuxictr.pytorch.layers import (
    BilinearInteraction,
    BilinearInteractionV2,
    CompressedInteractionNet,
    CrossInteraction,
    CrossNet,
    CrossNetMix,
    CrossNetV2,
    Dice,
    DIN_Attention,
    FactorizationMachine,
    FeatureEmbedding,
    FeatureEmbeddingDict,
    HolographicInteraction,
    InnerProductInteraction,
    InteractionMachine,
    KMaxPooling,
    LogisticRegression,
    MaskedAveragePooling,
    MaskedSumPooling,
    MLP_Block,
    MultiHeadTargetAttention,
    ScaledDotProductAttention,
    SqueezeExcitation,
)
from fuxictr.pytorch.models import BaseModel
from fuxictr.pytorch.torch_utils import get_activation


class LayerModel(BaseModel):
    """What all share: embeddings v (B, F, D) in, a logit (B, 1) out."""

    embedding = FeatureEmbedding

    def __init__(
        self,
        feature_map,
        model_id="LayerModel",
        gpu=-1,
        learning_rate=1e-3,
        embedding_dim=10,
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
        self.embedding_layer = self.embedding(feature_map, embedding_dim)
        self.add_layers(feature_map, feature_map.num_fields, embedding_dim)
        self.compile(kwargs["optimizer"], kwargs["loss"], learning_rate)
        self.reset_parameters()
        self.model_to_device()

    def forward(self, inputs):
        X = self.get_inputs(inputs)
        logit = self.logit(X, self.embedding_layer(X))
        return {"y_pred": self.output_activation(logit)}


class Linear(LayerModel):
    def add_layers(self, feature_map, num_fields, dim):
        self.lr = LogisticRegression(feature_map, use_bias=True)

    def logit(self, X, v):
        return self.lr(X)


class Machine(LayerModel):
    def add_layers(self, feature_map, num_fields, dim):
        self.fm = FactorizationMachine(feature_map)

    def logit(self, X, v):
        return self.fm(X, v)


class Deep(LayerModel):
    def add_layers(self, feature_map, num_fields, dim):
        self.mlp = MLP_Block(
            input_dim=feature_map.sum_emb_out_dim(),
            output_dim=1,
            hidden_units=[16, 8],
            hidden_activations=["Dice", "PReLU"],
            dropout_rates=0.1,
            batch_norm=True,
        )

    def logit(self, X, v):
        return self.mlp(v.flatten(start_dim=1))


class DeepNormOnce(Deep):
    """With the output activation inside, as FuxiCTR's DNN has it."""

    def add_layers(self, feature_map, num_fields, dim):
        self.mlp = MLP_Block(
            input_dim=feature_map.sum_emb_out_dim(),
            output_dim=1,
            hidden_units=[16],
            hidden_activations="ReLU",
            output_activation=self.output_activation,
            batch_norm=True,
            bn_only_once=True,
        )

    def forward(self, inputs):
        X = self.get_inputs(inputs)
        return {"y_pred": self.mlp(self.embedding_layer(X).flatten(start_dim=1))}


class Inner(LayerModel):
    output = "inner_product"

    def add_layers(self, feature_map, num_fields, dim):
        pairs = num_fields * (num_fields - 1) // 2
        widths = {
            "product_sum": 1,
            "bi_interaction": dim,
            "inner_product": pairs,
            "elementwise_product": pairs * dim,
        }
        self.inner = InnerProductInteraction(num_fields, output=self.output)
        self.lr = LogisticRegression(feature_map)
        self.fc = nn.Linear(widths[self.output], 1)

    def logit(self, X, v):
        return self.lr(X) + self.fc(self.inner(v).flatten(start_dim=1))


class InnerSum(Inner):
    output = "product_sum"


class InnerBi(Inner):
    output = "bi_interaction"


class InnerElements(Inner):
    output = "elementwise_product"


class Cross(LayerModel):
    def add_layers(self, feature_map, num_fields, dim):
        width = feature_map.sum_emb_out_dim()
        self.cross = self.make(width)
        self.fc = nn.Linear(width, 1)

    def make(self, width):
        return CrossNet(width, 2)

    def logit(self, X, v):
        return self.fc(self.cross(v.flatten(start_dim=1)))


class CrossV2(Cross):
    def make(self, width):
        return CrossNetV2(width, 2)


class CrossMix(Cross):
    def make(self, width):
        return CrossNetMix(width, layer_num=2, low_rank=4, num_experts=2)


class CrossOnce(Cross):
    def make(self, width):
        return CrossInteraction(width)

    def logit(self, X, v):
        flat = v.flatten(start_dim=1)
        return self.fc(flat + self.cross(flat, flat))


class Compressed(LayerModel):
    def add_layers(self, feature_map, num_fields, dim):
        self.lr = LogisticRegression(feature_map)
        self.cin = CompressedInteractionNet(num_fields, [6, 4], output_dim=1)

    def logit(self, X, v):
        return self.lr(X) + self.cin(v)


class Bilinear(LayerModel):
    kind, bilinear_type = BilinearInteraction, "field_interaction"

    def add_layers(self, feature_map, num_fields, dim):
        self.senet = SqueezeExcitation(num_fields, 2, "Sigmoid")
        self.bilinear = self.kind(num_fields, dim, self.bilinear_type)
        self.fc = nn.Linear(num_fields * (num_fields - 1) // 2 * dim, 1)
        self.lr = LogisticRegression(feature_map)

    def logit(self, X, v):
        pairs = self.bilinear(v) + self.bilinear(self.senet(v))
        return self.lr(X) + self.fc(pairs.flatten(start_dim=1))


class BilinearAll(Bilinear):
    bilinear_type = "field_all"


class BilinearEachV2(Bilinear):
    kind, bilinear_type = BilinearInteractionV2, "field_each"


class Holographic(LayerModel):
    interaction_type = "circular_convolution"

    def add_layers(self, feature_map, num_fields, dim):
        self.hfm = HolographicInteraction(num_fields, interaction_type=self.interaction_type)
        self.fc = nn.Linear(num_fields * (num_fields - 1) // 2 * dim, 1)
        self.lr = LogisticRegression(feature_map)

    def logit(self, X, v):
        return self.lr(X) + self.fc(self.hfm(v).flatten(start_dim=1))


class HolographicCorrelation(Holographic):
    interaction_type = "circular_correlation"


class Orders(LayerModel):
    def add_layers(self, feature_map, num_fields, dim):
        self.machine = InteractionMachine(dim, order=3, batch_norm=True)

    def logit(self, X, v):
        return self.machine(v)


class SelfAttention(LayerModel):
    def add_layers(self, feature_map, num_fields, dim):
        self.query, self.key, self.value = (nn.Linear(dim, dim, bias=False) for _ in range(3))
        self.attention = ScaledDotProductAttention(0.1)
        self.scale = dim**0.5
        self.fc = nn.Linear(num_fields * dim, 1)

    def logit(self, X, v):
        out, weights = self.attention(self.query(v), self.key(v), self.value(v), scale=self.scale)
        assert weights.shape == (len(v), v.shape[1], v.shape[1])
        return self.fc((out + v).flatten(start_dim=1))


class Interest(LayerModel):
    """As DIN: the sequence is not pooled, and attends to the target a."""

    embedding = FeatureEmbeddingDict

    def add_layers(self, feature_map, num_fields, dim):
        self.make_attention(dim)
        self.mlp = MLP_Block(
            input_dim=feature_map.sum_emb_out_dim(),
            output_dim=1,
            hidden_units=[16],
            hidden_activations="Dice",
            output_activation=None,
        )

    def make_attention(self, dim):
        self.attention = DIN_Attention(
            dim, attention_units=[8], hidden_activations="Dice", use_softmax=False
        )

    def forward(self, inputs):
        X = self.get_inputs(inputs)
        found = self.embedding_layer(X)
        mask = (X["s"].long() != 0).float()
        found["s"] = self.attention(found["a"], found["s"], mask)
        flat = self.embedding_layer.dict2tensor(found, flatten_emb=True)
        return {"y_pred": self.output_activation(self.mlp(flat))}


class InterestOfHeads(Interest):
    def make_attention(self, dim):
        self.attention = MultiHeadTargetAttention(dim, attention_dim=8, num_heads=2)


class InterestMean(Interest):
    """Pools the sequence by hand."""

    def make_attention(self, dim):
        self.pooling = MaskedAveragePooling()

    def attention(self, target, history, mask):
        return self.pooling(history, mask)


class InterestSum(Interest):
    def make_attention(self, dim):
        self.pooling, self.gate = MaskedSumPooling(), get_activation("tanh")

    def attention(self, target, history, mask):
        return self.gate(self.pooling(history))


class InterestRecurrent(Interest):
    """As DIEN: a GRU reads the sequence; its largest values are kept in order."""

    def make_attention(self, dim):
        self.gru = nn.GRU(dim, dim, batch_first=True)
        self.largest = KMaxPooling(2, dim=1)
        self.dice = Dice(dim)

    def attention(self, target, history, mask):
        hidden, _ = self.gru(history)
        return self.dice(self.largest(hidden).sum(dim=1) * target)


class Activated(LayerModel):
    """Activations by name."""

    def add_layers(self, feature_map, num_fields, dim):
        self.first = nn.Linear(num_fields * dim, 8)
        self.activations = nn.ModuleList(get_activation(["prelu", "Dice", "softmax"], [8, 8, 8]))
        self.gelu = layers.activations.GELU()
        self.last = nn.Linear(8, 1)
        assert get_activation(None) is None

    def logit(self, X, v):
        hidden = self.first(v.flatten(start_dim=1))
        prelu, dice, softmax = self.activations
        return self.last(softmax(hidden) * dice(hidden) + prelu(hidden) + self.gelu(hidden))


POOLED = (
    Linear,
    Machine,
    Deep,
    DeepNormOnce,
    Inner,
    InnerSum,
    InnerBi,
    InnerElements,
    Cross,
    CrossV2,
    CrossMix,
    CrossOnce,
    Compressed,
    Bilinear,
    BilinearAll,
    BilinearEachV2,
    Holographic,
    HolographicCorrelation,
    Orders,
    SelfAttention,
    Activated,
)
# Their sequence is not pooled: feature_encoder is None.
SEQUENTIAL = (Interest, InterestOfHeads, InterestMean, InterestSum, InterestRecurrent)
CLASSES = (*POOLED, *SEQUENTIAL)
