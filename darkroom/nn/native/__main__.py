"""Builds the kernels that suit this processor."""

from darkroom.nn.native.attention import attention_kernel
from darkroom.nn.native.convolution import convolution_kernel

attention_kernel()
convolution_kernel()
