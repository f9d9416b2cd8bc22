"""Modules between SigLIP and Llama in VILA-1.5 and SpatialRGPT: projector, region extractor.

Parameters have the names of the published checkpoints, so that weights load strictly.
(Lin et al. 2024, arXiv:2312.07533; Cheng et al. 2024, arXiv:2406.01584.)
"""

from __future__ import annotations

import re
from math import isqrt
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn
from torch.nn import functional

from vsp.errors import InputError, ModelError

AnyPart = TypeVar("AnyPart", bound=nn.Module)


class Downsample(nn.Module):
    """Join each 2 × 2 cell of patches into one vector; cells are in column-major order."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """[batch, side², width] → [batch, ceil(side / 2)², 4 width]; an odd side is padded with zeros."""
        batch, n_patches, width = features.shape
        side = isqrt(n_patches)
        grid = features.view(batch, side, side, width)
        grid = functional.pad(grid, (0, 0, 0, side % 2, 0, side % 2))
        half = grid.shape[1] // 2
        cells = grid.view(batch, half, 2, half, 2, width)
        # [batch, column of cells, row of cells, row in the cell, column in the cell, width]
        cells = cells.permute(0, 3, 1, 2, 4, 5)
        return cells.reshape(batch, half * half, 4 * width)


class Projector(nn.Module):
    """Vision features → image tokens in the language model's space."""

    def __init__(self, kind: str, vision_size: int, hidden_size: int) -> None:
        super().__init__()
        self.layers = _projector_layers(kind, vision_size, hidden_size)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        projected: torch.Tensor = self.layers(features)
        return projected


def _projector_layers(kind: str, vision_size: int, hidden_size: int) -> nn.Module:
    mlp = re.fullmatch(r"mlp(\d+)x_gelu", kind)
    if mlp:
        layers: list[nn.Module] = [nn.Linear(vision_size, hidden_size)]
        for _ in range(int(mlp[1]) - 1):
            layers += [nn.GELU(), nn.Linear(hidden_size, hidden_size)]
        return nn.Sequential(*layers)
    if kind == "mlp_downsample":
        return nn.Sequential(
            Downsample(),
            nn.LayerNorm(4 * vision_size),
            nn.Linear(4 * vision_size, hidden_size),
            nn.GELU(),
            nn.Linear(hidden_size, hidden_size),
        )
    if kind == "linear":
        return nn.Linear(vision_size, hidden_size)
    if kind == "identity":
        return nn.Identity()
    raise ModelError(
        f"projector type {kind!r}: not one of mlp_downsample, linear, mlpNx_gelu, identity; "
        "newer VILA checkpoints are not supported"
    )


class ChannelNorm(nn.Module):
    """Layer norm over the channels of each pixel, in float32, because float16 overflows."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """[batch, channel, height, width] → the same shape and dtype."""
        last = pixels.float().permute(0, 2, 3, 1)
        weight, bias = self.weight.float(), self.bias.float()
        normed = functional.layer_norm(last, weight.shape, weight, bias, eps=1e-6)
        return normed.permute(0, 3, 1, 2).to(pixels.dtype)


class RegionExtractor(nn.Module):
    """SpatialRGPT's refinement of image features, and its region vectors."""

    def __init__(self, vision_size: int, hidden_size: int) -> None:
        super().__init__()
        self.feature_refinement_module = nn.Sequential(
            nn.ConvTranspose2d(vision_size, vision_size, kernel_size=2, stride=2),
            ChannelNorm(vision_size),
            nn.GELU(),
            nn.ConvTranspose2d(vision_size, vision_size, kernel_size=2, stride=2),
            nn.GELU(),
        )
        self.rgb_projector = nn.Linear(vision_size, hidden_size)
        self.depth_projector = nn.Linear(vision_size, hidden_size)

    def refine(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """[batch, side², width] → fine [batch, (4 side)², width] and coarse [batch, side², width]."""
        batch, n_patches, width = features.shape
        side = isqrt(n_patches)
        grid = features.transpose(1, 2).reshape(batch, width, side, side)
        fine = self.feature_refinement_module(grid)
        coarse = functional.adaptive_avg_pool2d(fine, side)
        return fine.flatten(2).transpose(1, 2), coarse.flatten(2).transpose(1, 2)

    def regions(self, fine: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        """Vectors [region, hidden] of `masks` [region, height, width] on fine features [(4 side)², width]."""
        return self._project(self.rgb_projector, _pool(fine, masks))

    def depths(self, features: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        """The same on the unrefined features [side², width] of the depth picture."""
        return self._project(self.depth_projector, _pool(features, masks))

    def _project(self, projector: nn.Linear, pooled: torch.Tensor) -> torch.Tensor:
        vectors: torch.Tensor = projector(pooled.to(projector.weight.dtype))
        return vectors


def _pool(features: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Mean of `features` [side², width] under each mask, in float32: [region, width].

    Raises InputError for an empty mask.
    """
    n_tokens = features.shape[0]
    scale = (n_tokens / (masks.shape[1] * masks.shape[2])) ** 0.5
    weights = functional.interpolate(
        masks[None].float(), scale_factor=scale, mode="bilinear", align_corners=False
    )[0].flatten(1)
    total = weights.sum(dim=1, keepdim=True)
    if (total == 0).any():
        raise InputError("a region covers no pixel; give each a box or mask inside its image")
    return weights / (total + 1e-8) @ features.float()


def load_part(part: AnyPart, folder: Path, dtype: torch.dtype) -> AnyPart:
    """Load a part's weights strictly. Raises ModelError for missing or unexpected weights."""
    from safetensors.torch import load_file

    from vsp.models.weights import require_finite

    tensors: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(file)
    legacy = folder / "pytorch_model.bin"
    if not tensors and legacy.exists():
        tensors = torch.load(legacy, map_location="cpu", weights_only=True)
    try:
        part.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"{folder}: its weights do not fit: {reason[:300]}") from None
    require_finite(part, folder)
    return part.to(dtype).eval()
