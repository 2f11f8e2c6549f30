"""LoRA and what shares its config: (IA)3, VeRA, DoRA, DVoRA and MTL-LoRA."""

from typing import Any, Literal

import msgspec

from adapterhub_client.formats.method.values import (
    Decimal,
    Factor,
    LayerNumbers,
    Number,
    Rate,
    Size,
)


class LowRank(msgspec.Struct, frozen=True, kw_only=True):
    """The fields that LoRA and MTL-LoRA share."""

    selfattn_lora: bool = True
    """on the attention's projections that `attn_matrices` names"""
    intermediate_lora: bool = False
    """on the first projection of the feed-forward block"""
    output_lora: bool = False
    """on its last projection"""
    leave_out: LayerNumbers = []
    r: Size = 8
    alpha: Number = 8
    dropout: Rate = 0.0
    attn_matrices: list[Literal["q", "k", "v"]] = msgspec.field(default_factory=lambda: ["q", "v"])
    composition_mode: Literal["add", "scale"] = "add"
    """add a product of low rank to the projection, or scale its output ((IA)3)"""
    init_weights: str = "lora"
    init_weights_seed: int | None = None
    use_gating: bool = False
    use_dora: bool = False
    """give each output feature a magnitude of its own, apart from its direction"""
    dora_keeps_bias: bool = False
    """PEFT's DoRA, which rescales the weight alone; a key of ours, written only where it is set"""
    vera_d: Decimal | None = None
    """where vera_d or vera_b is given, the low-rank maps are random, frozen and shared by all layers"""
    vera_b: Decimal | None = None
    dtype: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The `config` object of an `adapter_config.json`."""
        written = dict(msgspec.to_builtins(self))
        if not self.dora_keeps_bias:
            del written["dora_keeps_bias"]
        return written

    @property
    def scale(self) -> float:
        """What the product of low rank is multiplied by: alpha / r."""
        return self.alpha / self.r

    @property
    def is_vera(self) -> bool:
        """Whether only vectors are trained, between random maps that all layers share."""
        return self.vera_d is not None or self.vera_b is not None


class Lora(LowRank, frozen=True, kw_only=True, tag_field="architecture", tag="lora"):
    """A change of low rank to projections, or a scaling of what they put out.

    Source: Hu et al. 2021 (LoRA); Liu et al. 2022 ((IA)3); Kopiczko et al. 2023 (VeRA); Liu et al. 2024 (DoRA).
    """

    scaled_inputs: list[Literal["intermediate", "output"]] = []
    """projections of which (IA)3 scales what goes in, as PEFT's `feedforward_modules`; a key of ours, written only
    where it is set"""

    def to_dict(self) -> dict[str, Any]:
        """The `config` object of an `adapter_config.json`."""
        written = super().to_dict()
        if not self.scaled_inputs:
            del written["scaled_inputs"]
        return written


class MtlLora(LowRank, frozen=True, kw_only=True, tag_field="architecture", tag="mtl_lora"):
    """LoRA whose down-projection is shared by several tasks.

    Source: Yang et al. 2024.
    """

    n_up_projection: Size = 1
    task_specific_matrix_type: Literal["singular_values", "linear"] = "singular_values"
    weights_sharpness: Factor = 0.05


LORA = Lora()

PRESETS: dict[str, Lora | MtlLora] = {
    "mtl_lora": MtlLora(),
    "lora": LORA,
    "ia3": Lora(
        intermediate_lora=True,
        r=1,
        alpha=1,
        attn_matrices=["k", "v"],
        composition_mode="scale",
        init_weights="ia3",
    ),
    "vera": Lora(vera_d=0.1, vera_b=0.0, init_weights="vera"),
    "dora": Lora(use_dora=True),
    "dvora": Lora(vera_d=0.1, vera_b=0.0, init_weights="vera", use_dora=True),
}
