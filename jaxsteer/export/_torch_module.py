"""The steering layer in PyTorch; imported only when it is asked for."""

from __future__ import annotations

import torch


class TorchSteer(torch.nn.Module):
    """``x + strength * (x @ kernel + bias)``, one map or one for each group.

    The map is kept as ``W - I``, so that the identity changes no bit; the product is
    taken in float32 at least and the result has the input's dtype.

    Attributes:
        kernel: ``[d, d]`` or ``[G, d, d]``, inputs first.
        bias: ``[d]`` or ``[G, d]``.
        strength: A scalar buffer, which may be set at any time.
        group: Codes ``[B]`` of the current batch; set before a call.
    """

    kernel: torch.Tensor
    bias: torch.Tensor
    strength: torch.Tensor
    group: torch.Tensor | None

    def __init__(self, kernel: torch.Tensor, bias: torch.Tensor, strength: float):
        super().__init__()
        self.register_buffer("kernel", kernel)
        self.register_buffer("bias", bias)
        self.register_buffer("strength", torch.tensor(strength, dtype=torch.float32))
        self.register_buffer("group", None, persistent=False)

    @property
    def width(self) -> int:
        """Number of features that the map moves."""
        return self.bias.shape[-1]

    def forward(
        self, x: torch.Tensor, group: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Steer ``[..., d]``, or ``[B, ..., d]`` by the groups ``[B]``."""
        wide = torch.promote_types(x.dtype, torch.float32)
        kernel, bias = self.kernel.to(wide), self.bias.to(wide)
        rows = x.to(wide)
        if kernel.ndim == 3:
            group = self.group if group is None else group
            if group is None:
                raise ValueError(
                    "The maps are one a group: set steer.group, or pass it."
                )
            group = torch.as_tensor(group, device=x.device)
            flat = rows.reshape(rows.shape[0], -1, rows.shape[-1])
            change = torch.bmm(flat, kernel[group]) + bias[group][:, None]
            change = change.reshape(rows.shape)
        else:
            change = rows @ kernel + bias
        return (rows + self.strength.to(wide) * change).to(x.dtype)
