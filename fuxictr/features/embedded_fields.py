"""How each field of a dataset is embedded: whose table, which width, which encoder."""

from __future__ import annotations

from typing import Any

from fuxictr.errors import ConfigError, did_you_mean
from fuxictr.features.encoders import Encoder, encoded_shape, parse_encoder, pooling_of
from fuxictr.features.specs import FIELD_TYPES, ID_TYPES


class EmbeddedFields:
    """What follows from the specs of single fields; FeatureMap says what a spec holds."""

    dataset_id: str
    features: dict[str, dict[str, Any]]

    @property
    def fields(self) -> dict[str, dict[str, Any]]:
        """The features that a model embeds, in order: all except meta columns."""
        return {n: s for n, s in self.features.items() if s["type"] in FIELD_TYPES}

    def embedding_dims(self, embedding_dim: int) -> list[int]:
        """Returns the width of each field's embedding, as ``output_dim``."""
        return [self.output_dim(name, embedding_dim) for name in self.fields]

    def output_dim(self, name: str, embedding_dim: int) -> int:
        """Returns the width of a field's embedding after its feature_encoder.

        Where that is a pooling or none, it is the emb_output_dim, or ``table_dim``. Raises
        ConfigError if the encoder does not fit the field, or gives another emb_output_dim.
        """
        spec, width = self.features[name], self.table_dim(name, embedding_dim)
        if not self.has_encoder(name):
            return spec.get("emb_output_dim") or width
        shape: tuple[int, ...] = (width,)
        if spec["type"] == "embedding":
            shape = (spec["pretrain_dim"],)
        elif spec["type"] == "sequence":
            shape = (spec["max_len"], width)
        found = encoded_shape(self.encoder(name), shape, name, spec["feature_encoder"])[-1]
        wanted = spec.get("emb_output_dim") or found
        if found != wanted:
            raise ConfigError(
                f"column '{name}': keys 'emb_output_dim' and 'feature_encoder': found {wanted}, "
                f"but the encoder {spec['feature_encoder']!r:.200} gives {found}"
            )
        return found

    def table_dim(self, name: str, embedding_dim: int) -> int:
        """Returns the width of a field's table: its embedding_dim, or the model's.

        Raises ConfigError as ``table_owner``, or if the table's owner has another width.
        """
        own = self.features[name].get("embedding_dim")
        owner = self.table_owner(name)
        found = self.features[owner].get("embedding_dim") or embedding_dim
        if own and own != found:
            raise ConfigError(
                f"column '{name}': key 'embedding_dim': found {own}, but the table of '{owner}', "
                f"which it shares, has {found}"
            )
        return found

    def table_owner(self, name: str) -> str:
        """Returns the field whose table a field uses: the end of its chain of share_embedding.

        Raises ConfigError if the chain is a circle, or a field has no ids or another vocab_size.
        """
        chain = [name]
        while target := self.features[chain[-1]].get("share_embedding"):
            where = f"column '{chain[-1]}': key 'share_embedding'"
            allowed = [n for n, s in self.features.items() if s["type"] in ID_TYPES]
            if target not in allowed or chain[0] not in allowed:
                raise ConfigError(
                    f"{where}: found '{target}', allowed: of a categorical or sequence field, "
                    f"another one of dataset '{self.dataset_id}'{did_you_mean(target, allowed)}"
                )
            if target in chain:
                raise ConfigError(f"{where}: a circle, {' -> '.join([*chain, target])}")
            sizes = [self.features[n]["vocab_size"] for n in (name, target)]
            if sizes[0] != sizes[1]:
                raise ConfigError(
                    f"{where}: '{name}' has vocab_size {sizes[0]}, '{target}' {sizes[1]}; fields "
                    "of one table have one vocabulary; rebuild the dataset"
                )
            chain.append(target)
        return chain[-1]

    def encoder(self, name: str) -> tuple[Encoder, ...]:
        """Returns the steps of a field's feature_encoder; ConfigError for an unknown one."""
        spec = self.features[name]
        default = "average" if spec["type"] == "sequence" else None
        return parse_encoder(spec.get("feature_encoder", default), name)

    def has_encoder(self, name: str) -> bool:
        """Returns whether a field's feature_encoder is more than the pooling of a sequence."""
        steps = self.encoder(name)
        is_pooled = self.features[name]["type"] == "sequence" and pooling_of(steps) is not None
        return bool(steps) and not is_pooled

    def pooling(self, name: str) -> str | None:
        """Returns ``average`` or ``sum`` if that is a sequence's whole encoder, None otherwise."""
        return pooling_of(self.encoder(name))

    def num_vectors(self, name: str) -> int | None:
        """Returns how many vectors a sequence keeps; None: its embedding is one vector."""
        spec = self.features[name]
        if spec["type"] != "sequence" or self.pooling(name) is not None:
            return None
        # The width does not change the number of positions unless an encoder says so.
        shape: tuple[int, ...] = (spec["max_len"],)
        for step in self.encoder(name):
            if step.pooling is not None:
                return None
            if step.name == "layers.KMaxPooling" and step.arguments["dim"] in (1, -2):
                shape = (step.arguments["k"],)
        return shape[0]
