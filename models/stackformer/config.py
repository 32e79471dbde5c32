"""What a Stackformer is: the free choices of its network, and what its tokens decide."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from models.base.later import LEFT_OUT_AT_DEFAULT
from models.stackformer.transformer import BlockKind

PositionSupport = Literal["ascending", "unused"]
Condition = Literal["none", "class", "text"]


@dataclass(frozen=True)
class NetworkConfig:
    """The free choices in a Stackformer's architecture.

    Attributes:
        width: D, features of a token, a multiple of `heads` (≥ 1).
        heads: attention heads; divides `width` (≥ 1).
        code_layers: blocks of the Code-Transformer (≥ 1).
        position_layers: blocks of the Position-Transformer; 0 builds none, if every position is kept (≥ 0).
        dropout: dropout of the embedded input and of each block's residual (≥ 0, < 1).
        position_support: ascending (exact, because positions ascend) or unused (literally Algorithm 1).
        block: gpt (the paper's) or modern (see models/stackformer/transformer.py).
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    width: int
    heads: int
    code_layers: int
    position_layers: int
    dropout: float
    position_support: PositionSupport
    block: BlockKind = "gpt"

    def __post_init__(self) -> None:
        for name in ("width", "heads", "code_layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected ≥ 1")
        if self.position_layers < 0:
            raise ValueError(f"position_layers is {self.position_layers}, expected ≥ 0")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        if self.block == "modern" and self.width // self.heads % 4:
            raise ValueError(
                f"width {self.width} / heads {self.heads} = {self.width // self.heads}; block modern turns pairs of "
                "features by row and by column: expected a multiple of 4"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}, expected 0 ≤ dropout < 1")


@dataclass(frozen=True)
class StackformerConfig:
    """A Stackformer's architecture; everything except `network` follows from its tokens.

    Attributes:
        network: the free choices.
        num_codes: K.
        num_positions: L.
        num_kept: N, or the most codes of an image.
        condition: none (one <sos>), class (one class code) or text (N_c text codes).
        condition_length: N_c.
        condition_vocab: number of condition codes, without the null code; 1 (<sos>) for none.
        fewest_kept: the fewest codes of an image; None if all have N.
    """

    network: NetworkConfig
    num_codes: int
    num_positions: int
    num_kept: int
    condition: Condition
    condition_length: int
    condition_vocab: int
    fewest_kept: int | None = field(default=None, metadata=LEFT_OUT_AT_DEFAULT)

    def __post_init__(self) -> None:
        for name in ("num_codes", "num_positions", "num_kept", "condition_length", "condition_vocab"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected ≥ 1")
        if self.num_kept > self.num_positions:
            raise ValueError(
                f"num_kept is {self.num_kept}, expected at most num_positions {self.num_positions}"
            )
        if self.fewest_kept is not None and not 1 <= self.fewest_kept <= self.num_kept:
            raise ValueError(f"fewest_kept is {self.fewest_kept}, expected 1 … num_kept {self.num_kept}")
        if not self.network.position_layers and (self.num_kept < self.num_positions or self.stops):
            raise ValueError(
                f"position_layers is 0, and {self.num_kept} of {self.num_positions} positions are kept; "
                "expected ≥ 1 (0 is for sequences that keep all)"
            )
        if self.condition != "text" and self.condition_length != 1:
            raise ValueError(
                f"condition_length is {self.condition_length}, expected 1 unless condition is text"
            )
        if self.condition == "none" and self.condition_vocab != 1:
            raise ValueError(f"condition_vocab is {self.condition_vocab}, expected 1 where condition is none")

    @property
    def stops(self) -> bool:
        """Whether a sequence ends by a symbol of its own."""
        return self.fewest_kept is not None

    @property
    def fewest(self) -> int:
        """The fewest codes of an image: N if all have N."""
        return self.num_kept if self.fewest_kept is None else self.fewest_kept

    @property
    def length(self) -> int:
        """T, the number of tokens that the Code-Transformer reads."""
        return self.condition_length + self.num_kept - 1

    @property
    def null_code(self) -> int:
        """The code for no condition: a learned one, or <sos> if the model has no conditions."""
        return 0 if self.condition == "none" else self.condition_vocab
