"""GE4Rec: CTR prediction models, discriminative (DIS) and generative (GEN), in one framework.

``__version__`` begins with the version of FuxiCTR whose names are here, since models written for it
check that; ``ge4rec_version`` is this project's own.
"""

ge4rec_version = "0.1.0"
__version__ = f"2.3.10+ge4rec.{ge4rec_version}"
