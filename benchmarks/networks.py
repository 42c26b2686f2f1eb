"""Networks as they are deployed, built from code, without weights to download: factories for ``latbench measure``.

``latbench measure benchmarks.networks:resnet18 --backend cpu --backend onnxruntime``; each returns the network and its
sample inputs. Layers, widths and parameter counts are those of the papers.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Sample = dict[str, Tensor]
IMAGE = (1, 3, 224, 224)
TOKENS = (1, 128)
VOCABULARY = 30_522


def resnet18() -> tuple[nn.Module, Sample]:
    """ResNet-18 for ImageNet, 11.69 million parameters (He et al., Deep Residual Learning, 2016, Table 1)."""
    blocks: list[nn.Module] = []
    width = 64
    for stage, channels in enumerate((64, 128, 256, 512)):
        for block in range(2):
            blocks.append(ResidualBlock(width, channels, stride=2 if stage and not block else 1))
            width = channels
    stem = nn.Sequential(
        nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)
    )
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000))
    return nn.Sequential(stem, *blocks, head), {"x": torch.randn(IMAGE)}


def mobilenet_v2() -> tuple[nn.Module, Sample]:
    """MobileNetV2 for ImageNet, 3.50 million parameters (Sandler et al., 2018, Table 2)."""
    table = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    blocks: list[nn.Module] = [_convolution(3, 32, kernel=3, stride=2)]
    width = 32
    for expansion, channels, repeats, stride in table:
        for repeat in range(repeats):
            blocks.append(InvertedResidual(width, channels, expansion, stride=1 if repeat else stride))
            width = channels
    head = (_convolution(width, 1280), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(1280, 1000))
    return nn.Sequential(*blocks, *head), {"x": torch.randn(IMAGE)}


def vit_tiny() -> tuple[nn.Module, Sample]:
    """ViT-Tiny/16 for ImageNet, 5.72 million parameters (Touvron et al., DeiT, 2021, Table 1)."""
    return VisionTransformer(width=192, depth=12, heads=3, patch=16, classes=1000), {"x": torch.randn(IMAGE)}


def text_encoder() -> tuple[nn.Module, Sample]:
    """The encoder of BERT-Mini, 11.10 million parameters (Turc et al., Well-Read Students, 2019), on 128 token ids."""
    tokens = torch.randint(0, VOCABULARY, TOKENS)
    return TextEncoder(VOCABULARY, width=256, depth=4, heads=4, length=512), {"tokens": tokens}


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, width: int, channels: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, channels, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(channels)
        self.second = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(channels)
        self.shortcut = (
            nn.Identity()
            if stride == 1 and width == channels
            else nn.Sequential(nn.Conv2d(width, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))
        )

    def forward(self, x: Tensor) -> Tensor:
        residual = F.relu(self.first_norm(self.first(x)), inplace=True)
        residual = self.second_norm(self.second(residual))
        residual += self.shortcut(x)
        return F.relu(residual, inplace=True)


class InvertedResidual(nn.Module):
    """A 1x1 expansion, a 3x3 depthwise convolution and a linear 1x1 projection."""

    def __init__(self, width: int, channels: int, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = width * expansion
        self.layers = nn.Sequential(
            *([_convolution(width, hidden)] if expansion > 1 else []),
            _convolution(hidden, hidden, kernel=3, stride=stride, groups=hidden),
            nn.Conv2d(hidden, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.has_shortcut = stride == 1 and width == channels

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.has_shortcut else y


def _convolution(width: int, channels: int, *, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(width, channels, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels), nn.ReLU6(inplace=True))


class TransformerLayer(nn.Module):
    """Self-attention and two dense layers, normalised before (ViT) or after (BERT) each."""

    def __init__(self, width: int, heads: int, *, norm_first: bool) -> None:
        super().__init__()
        self.heads, self.norm_first = heads, norm_first
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.dense = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def attention(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        qkv = self.qkv(x).reshape(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2])
        y: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        return y

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.norms
        if self.norm_first:
            x = x + self.attention(first(x))
            y: Tensor = x + self.dense(second(x))
        else:
            x = first(x + self.attention(x))
            y = second(x + self.dense(x))
        return y


class VisionTransformer(nn.Module):
    """Patches, a class token, learned positions, transformer layers and a linear head."""

    def __init__(self, width: int, depth: int, heads: int, patch: int, classes: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, (IMAGE[-1] // patch) ** 2 + 1, width) * 0.02)
        self.layers = nn.Sequential(*(TransformerLayer(width, heads, norm_first=True) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), patches], dim=1) + self.positions
        y: Tensor = self.head(self.norm(self.layers(x))[:, 0])
        return y


class TextEncoder(nn.Module):
    """Token and position embeddings and transformer layers; what it returns is one vector a token."""

    def __init__(self, vocabulary: int, width: int, depth: int, heads: int, length: int) -> None:
        super().__init__()
        self.words, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        self.norm = nn.LayerNorm(width)
        self.layers = nn.Sequential(*(TransformerLayer(width, heads, norm_first=False) for _ in range(depth)))

    def forward(self, tokens: Tensor) -> Tensor:
        positions = self.positions(torch.arange(tokens.shape[1], device=tokens.device))
        y: Tensor = self.layers(self.norm(self.words(tokens) + positions))
        return y
