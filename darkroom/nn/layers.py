"""Linear layers and convolutions whose weights may be stored narrower than what passes through them."""

from __future__ import annotations

from torch import Tensor, nn

from darkroom.nn.native.convolution import convolution_kernel, convolves, native_convolution

__all__ = ["Conv2d", "Linear", "allow_minimal_filtering"]


class Linear(nn.Linear):
    """`nn.Linear` that computes in the precision of its input where its weight is stored in a narrower one."""

    def forward(self, x: Tensor) -> Tensor:  # (…, in) -> (…, out)
        return nn.functional.linear(x, widened(self.weight, x), self.bias)


class Conv2d(nn.Conv2d):
    """`nn.Conv2d` that computes in the precision of its input where its weight is stored in a narrower one.

    With `minimal_filtering` 3×3 kernels may take a quarter of the products, at two to three times PyTorch's rounding
    error.
    """

    minimal_filtering = False

    def forward(self, x: Tensor) -> Tensor:  # (B, in, H, W) -> (B, out, H', W')
        weight = widened(self.weight, x)
        if self.minimal_filtering and self._keeps_size and convolves(x, weight):
            kernel = convolution_kernel()
            if kernel is not None:
                return native_convolution(kernel, x, weight, self.bias)
        return self._conv_forward(x, weight, self.bias)

    @property
    def _keeps_size(self) -> bool:
        shape = (self.kernel_size, self.stride, self.padding, self.dilation)
        return shape == ((3, 3), (1, 1), (1, 1), (1, 1)) and self.groups == 1


def widened(weight: Tensor, x: Tensor) -> Tensor:
    """`weight` in the precision of `x`, if that is the wider one; autocast does the rest."""
    return weight.to(x.dtype) if weight.dtype.itemsize < x.dtype.itemsize else weight


def allow_minimal_filtering(module: nn.Module) -> None:
    """Let all convolutions in `module` filter minimally where that pays: in float32 on the CPU, without gradients."""
    for layer in module.modules():
        if isinstance(layer, Conv2d):
            layer.minimal_filtering = True
