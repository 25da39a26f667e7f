//! The geometry of a convolution.

/// Sizes of a convolution; see the [module](super) for the equation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvShape {
    /// Images in the batch.
    pub n: usize,
    /// Input height.
    pub ih: usize,
    /// Input width.
    pub iw: usize,
    /// Input channels.
    pub cin: usize,
    /// Output height.
    pub oh: usize,
    /// Output width.
    pub ow: usize,
    /// Output channels.
    pub cout: usize,
    /// Kernel height.
    pub kh: usize,
    /// Kernel width.
    pub kw: usize,
    /// Step of the kernel over the input, both ways.
    pub stride: usize,
    /// Rows and columns of zeros around the input.
    pub pad: usize,
    /// Step between taps.
    pub dilation: usize,
    /// Groups of channels that do not see each other.
    pub groups: usize,
}

impl ConvShape {
    /// A square-kernel convolution of `[n, ih, iw, cin]`, one group, no dilation; the output size
    /// follows, rounded down.
    ///
    /// # Panics
    /// If the kernel is larger than the padded input, or a size is zero.
    pub fn new(
        (n, ih, iw, cin): (usize, usize, usize, usize),
        cout: usize,
        kernel: usize,
        stride: usize,
        pad: usize,
    ) -> ConvShape {
        let shape = ConvShape {
            n,
            ih,
            iw,
            cin,
            oh: 0,
            ow: 0,
            cout,
            kh: kernel,
            kw: kernel,
            stride,
            pad,
            dilation: 1,
            groups: 1,
        };
        shape.with_output_size()
    }

    /// A linear layer: `x [n, cin]`, `y [n, cout]`.
    pub fn linear(n: usize, cin: usize, cout: usize) -> ConvShape {
        ConvShape::new((n, 1, 1, cin), cout, 1, 1, 0)
    }

    /// The same with `oh` and `ow` as the other fields say (rounded down, as PyTorch does).
    ///
    /// # Panics
    /// As [`ConvShape::new`].
    #[must_use]
    pub fn with_output_size(mut self) -> ConvShape {
        let size = |input: usize, kernel: usize| {
            let reach = (kernel - 1) * self.dilation + 1;
            let padded = input + 2 * self.pad;
            assert!(reach <= padded, "kernel reach {reach} exceeds the padded input {padded}");
            (padded - reach) / self.stride + 1
        };
        (self.oh, self.ow) = (size(self.ih, self.kh), size(self.iw, self.kw));
        self
    }

    /// Elements of the input.
    pub fn input_len(&self) -> usize {
        self.n * self.ih * self.iw * self.cin
    }

    /// Elements of the output.
    pub fn output_len(&self) -> usize {
        self.n * self.oh * self.ow * self.cout
    }

    /// Elements of the canonical OIHW weights.
    pub fn weight_len(&self) -> usize {
        self.cout * (self.cin / self.groups) * self.kh * self.kw
    }

    /// Multiply-adds of one direction, taps in the padding included.
    pub fn macs(&self) -> usize {
        self.n * self.oh * self.ow * self.weight_len()
    }

    /// The input row or column that output `o` meets at tap `k`; may lie in the padding.
    pub(super) fn input_at(&self, o: usize, k: usize) -> isize {
        (o * self.stride + k * self.dilation) as isize - self.pad as isize
    }
}
