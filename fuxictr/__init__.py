"""GE4Rec: CTR prediction models, discriminative (DIS) and generative (GEN), in one framework."""

__version__ = "0.1.0"
