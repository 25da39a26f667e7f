//! Shapes: what each operation makes of the types of its inputs.

use thiserror::Error;

use crate::graph::TensorType;
use crate::op::{Conv2d, DType, Int8Conv2d, Op, Pool2d, SubsamplePad};

/// Why inputs do not fit an operation.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum ShapeError {
    /// Too few or too many inputs.
    #[error("{op} takes {expected} inputs, found {found}")]
    Arity {
        /// The operation.
        op: &'static str,
        /// How many it takes.
        expected: &'static str,
        /// How many there are.
        found: usize,
    },
    /// An input has another rank or element type than the operation reads.
    #[error("{op} reads {expected}, found {found:?}")]
    Type {
        /// The operation.
        op: &'static str,
        /// What it reads.
        expected: &'static str,
        /// What is there.
        found: TensorType,
    },
    /// Two sizes that must agree do not.
    #[error("{op}: {what} is {found}, expected {expected}")]
    Size {
        /// The operation.
        op: &'static str,
        /// Which size.
        what: &'static str,
        /// What it is.
        found: usize,
        /// What the other inputs ask for.
        expected: usize,
    },
    /// The window is larger than the padded picture.
    #[error("{op}: a window of {window} does not fit a picture of {height}x{width}")]
    TooSmall {
        /// The operation.
        op: &'static str,
        /// Side of the window.
        window: usize,
        /// Rows of the picture.
        height: usize,
        /// Columns of the picture.
        width: usize,
    },
}

/// Types of an operation's outputs for these input types.
///
/// # Errors
/// What does not fit, in the operation's words.
pub fn output_types(op: &Op, inputs: &[&TensorType]) -> Result<Vec<TensorType>, ShapeError> {
    let at = Inputs { op: op.name(), types: inputs };
    match op {
        Op::Normalize { mean, std, stored } => {
            at.arity(1..=1, "1")?;
            let shape @ [_, _, _, c] = at.picture(0, DType::U8)?;
            at.same("channels", mean.len(), c)?;
            at.same("channels", std.len(), c)?;
            Ok(vec![TensorType::new(&shape, *stored)])
        }
        Op::Conv2d(conv) => at.conv(conv),
        Op::BatchNorm { .. } => {
            let x = at.norm(5)?;
            let c = TensorType::f32(&x[3..]);
            Ok(vec![at.stored_like(0, &x), c.clone(), c.clone(), c.clone(), c])
        }
        Op::BatchNormInference { .. } => Ok(vec![at.stored_like(0, &at.norm(5)?)]),
        Op::Relu | Op::Sigmoid => {
            at.arity(1..=1, "1")?;
            at.real(0)?;
            Ok(vec![inputs[0].clone()])
        }
        Op::Add | Op::ReluGrad | Op::SigmoidGrad | Op::DropoutGrad => at.elementwise(2),
        Op::ChannelScale => {
            at.arity(2..=2, "2")?;
            let shape @ [n, _, _, c] = at.activations(0)?;
            at.exactly(1, "a scale for each sample and channel", &[n, 1, 1, c])?;
            Ok(vec![at.stored_like(0, &shape)])
        }
        Op::MaxPool(pool) => {
            at.arity(1..=1, "1")?;
            let y = at.pool(pool, at.activations(0)?)?;
            Ok(vec![at.stored_like(0, &y), TensorType::new(&y, DType::U8)])
        }
        Op::AvgPool(pool) => {
            at.arity(1..=1, "1")?;
            Ok(vec![at.stored_like(0, &at.pool(pool, at.activations(0)?)?)])
        }
        Op::GlobalAvgPool => {
            at.arity(1..=1, "1")?;
            let [n, _, _, c] = at.activations(0)?;
            one(&[n, 1, 1, c])
        }
        Op::SubsamplePad(SubsamplePad { stride, before, after }) => {
            at.arity(1..=1, "1")?;
            let [n, h, w, c] = at.activations(0)?;
            let shape = [n, h.div_ceil(*stride), w.div_ceil(*stride), before + c + after];
            Ok(vec![at.stored_like(0, &shape)])
        }
        Op::Linear => {
            at.arity(3..=3, "3")?;
            let [n, h, w, c] = at.activations(0)?;
            at.same("pixels", h * w, 1)?;
            let [cout, cin] = at.matrix(1)?;
            at.same("features", c, cin)?;
            at.exactly(2, "a bias for each output", &[cout])?;
            one(&[n, cout])
        }
        Op::Dropout { .. } => {
            let x = at.random()?;
            Ok(vec![x.clone(), x.clone()])
        }
        Op::StochasticDepth { .. } => {
            let x = at.random()?;
            Ok(vec![x.clone(), TensorType::f32(&x.shape[..1])])
        }
        Op::CrossEntropy(_) => {
            let [n, k] = at.targets()?;
            Ok(vec![TensorType::f32(&[1]), TensorType::f32(&[n, k])])
        }
        Op::BinaryCrossEntropy(_) => {
            at.targets()?;
            one(&[1])
        }
        Op::CrossEntropyGrad(_) | Op::BinaryCrossEntropyGrad(_) => one(&at.targets()?),
        Op::Quantize(_) => {
            at.arity(1..=1, "1")?;
            at.real(0)?;
            Ok(vec![TensorType::new(&inputs[0].shape, DType::U8)])
        }
        Op::Dequantize(_) => {
            at.arity(1..=1, "1")?;
            at.bytes(0)?;
            one(&inputs[0].shape)
        }
        Op::Int8Conv2d(op) => at.int8_conv(op),
        Op::Int8Linear => {
            at.arity(4..=4, "4")?;
            let [n, h, w, c] = at.picture(0, DType::U8)?;
            at.same("pixels", h * w, 1)?;
            let [cout, cin] = at.matrix(1)?;
            at.same("features", c, cin)?;
            at.exactly(2, "an offset for each output", &[cout])?;
            at.exactly(3, "a multiplier for each output", &[cout])?;
            one(&[n, cout])
        }
        Op::Int8MaxPool(pool) => {
            at.arity(1..=1, "1")?;
            let y = at.pool(pool, at.picture(0, DType::U8)?)?;
            Ok(vec![TensorType::new(&y, DType::U8)])
        }
        Op::Int8GlobalAvgPool { .. } => {
            at.arity(1..=1, "1")?;
            let [n, _, _, c] = at.picture(0, DType::U8)?;
            Ok(vec![TensorType::new(&[n, 1, 1, c], DType::U8)])
        }
        Op::Int8SubsamplePad { shortcut: SubsamplePad { stride, before, after }, .. } => {
            at.arity(1..=1, "1")?;
            let [n, h, w, c] = at.picture(0, DType::U8)?;
            let shape = [n, h.div_ceil(*stride), w.div_ceil(*stride), before + c + after];
            Ok(vec![TensorType::new(&shape, DType::U8)])
        }
        Op::Conv2dInputGrad { conv, input_size } => at.conv_input_grad(conv, *input_size),
        Op::Conv2dWeightGrad(conv) => at.conv_weight_grad(conv),
        Op::BiasGrad => {
            at.arity(1..=1, "1")?;
            at.real(0)?;
            one(&inputs[0].shape[inputs[0].shape.len() - 1..])
        }
        Op::BatchNormGrad | Op::BatchNormInferenceGrad { .. } => {
            at.arity(5..=5, "5")?;
            let dy = at.activations(0)?;
            at.alike(0, 1)?;
            for i in 2..5 {
                at.exactly(i, "a value for each channel", &dy[3..])?;
            }
            let c = TensorType::f32(&dy[3..]);
            Ok(vec![at.stored_like(0, &dy), c.clone(), c])
        }
        Op::ChannelScaleGrad => {
            at.elementwise(2)?;
            let [n, _, _, c] = at.activations(0)?;
            one(&[n, 1, 1, c])
        }
        Op::MaxPoolGrad { pool, input_size } => {
            at.arity(2..=2, "2")?;
            at.pool_grad(pool, *input_size)
        }
        Op::AvgPoolGrad { pool, input_size } => {
            at.arity(1..=1, "1")?;
            at.pool_grad(pool, *input_size)
        }
        Op::GlobalAvgPoolGrad { input_size: [h, w], stored } => {
            at.arity(1..=1, "1")?;
            let [n, _, _, c] = at.activations(0)?;
            Ok(vec![TensorType::new(&[n, *h, *w, c], *stored)])
        }
        Op::SubsamplePadGrad { shortcut, input_size: [h, w] } => {
            at.arity(1..=1, "1")?;
            let [n, oh, ow, c] = at.activations(0)?;
            at.same("rows", oh, h.div_ceil(shortcut.stride))?;
            at.same("columns", ow, w.div_ceil(shortcut.stride))?;
            let shape = [n, *h, *w, c - shortcut.before - shortcut.after];
            Ok(vec![at.stored_like(0, &shape)])
        }
        Op::LinearInputGrad => {
            at.arity(2..=2, "2")?;
            let ([n, k], [cout, cin]) = (at.matrix(0)?, at.matrix(1)?);
            at.same("outputs", k, cout)?;
            one(&[n, 1, 1, cin])
        }
        Op::LinearWeightGrad => {
            at.arity(2..=2, "2")?;
            let ([n, _, _, c], [m, k]) = (at.activations(0)?, at.matrix(1)?);
            at.same("samples", m, n)?;
            one(&[k, c])
        }
        Op::StochasticDepthGrad => {
            at.arity(2..=2, "2")?;
            at.real(0)?;
            at.exactly(1, "a value for each sample", &inputs[0].shape[..1])?;
            Ok(vec![inputs[0].clone()])
        }
        Op::ClipFactor { .. } => Ok(vec![TensorType::f32(&[1]), TensorType::f32(&[1])]),
        Op::SgdUpdate(_) => {
            at.arity(4..=5, "4 or 5")?;
            for i in 1..3 {
                at.exactly(i, "the parameter's shape", &inputs[0].shape)?;
            }
            at.exactly(3, "learning rate and momentum", &[2])?;
            Ok(vec![inputs[0].clone(), inputs[0].clone()])
        }
    }
}

fn one(shape: &[usize]) -> Result<Vec<TensorType>, ShapeError> {
    Ok(vec![TensorType::f32(shape)])
}

/// The inputs of one operation, with the checks that its rules are made of.
struct Inputs<'a> {
    op: &'static str,
    types: &'a [&'a TensorType],
}

impl Inputs<'_> {
    fn arity(
        &self,
        range: std::ops::RangeInclusive<usize>,
        expected: &'static str,
    ) -> Result<(), ShapeError> {
        let found = self.types.len();
        let error = ShapeError::Arity { op: self.op, expected, found };
        if range.contains(&found) { Ok(()) } else { Err(error) }
    }

    fn wrong(&self, i: usize, expected: &'static str) -> ShapeError {
        ShapeError::Type { op: self.op, expected, found: self.types[i].clone() }
    }

    fn same(&self, what: &'static str, found: usize, expected: usize) -> Result<(), ShapeError> {
        let error = ShapeError::Size { op: self.op, what, found, expected };
        if found == expected { Ok(()) } else { Err(error) }
    }

    fn real(&self, i: usize) -> Result<(), ShapeError> {
        if self.types[i].dtype.is_real() { Ok(()) } else { Err(self.wrong(i, "real numbers")) }
    }

    fn bytes(&self, i: usize) -> Result<(), ShapeError> {
        if self.types[i].dtype == DType::U8 { Ok(()) } else { Err(self.wrong(i, "bytes")) }
    }

    fn exactly(&self, i: usize, expected: &'static str, shape: &[usize]) -> Result<(), ShapeError> {
        if self.types[i].shape == shape { Ok(()) } else { Err(self.wrong(i, expected)) }
    }

    /// A tensor with a seed and a step counter; gives the tensor's type.
    fn random(&self) -> Result<&TensorType, ShapeError> {
        self.arity(3..=3, "3")?;
        self.real(0)?;
        for (i, expected, len) in [(1, "a seed of two u32", 2), (2, "a step counter, u32", 1)] {
            if *self.types[i] != TensorType::new(&[len], DType::U32) {
                return Err(self.wrong(i, expected));
            }
        }
        Ok(self.types[0])
    }

    fn picture(&self, i: usize, dtype: DType) -> Result<[usize; 4], ShapeError> {
        let shape: Result<[usize; 4], _> = self.types[i].shape.as_slice().try_into();
        match shape {
            Ok(shape) if self.types[i].dtype == dtype => Ok(shape),
            _ => Err(self.wrong(i, "a tensor [n, h, w, c]")),
        }
    }

    /// A picture of real numbers, however they are stored.
    fn activations(&self, i: usize) -> Result<[usize; 4], ShapeError> {
        self.real(i)?;
        self.picture(i, self.types[i].dtype)
    }

    /// Real numbers that are stored as those of input `i` are.
    fn stored_like(&self, i: usize, shape: &[usize]) -> TensorType {
        TensorType::new(shape, self.types[i].dtype)
    }

    /// Input `j` has the shape of input `i` and is stored as it is.
    fn alike(&self, i: usize, j: usize) -> Result<(), ShapeError> {
        let alike = self.types[i] == self.types[j];
        if alike { Ok(()) } else { Err(self.wrong(j, "tensors of one shape, stored alike")) }
    }

    fn matrix(&self, i: usize) -> Result<[usize; 2], ShapeError> {
        let shape: Result<[usize; 2], _> = self.types[i].shape.as_slice().try_into();
        shape.map_err(|_| self.wrong(i, "a matrix"))
    }

    fn elementwise(&self, arity: usize) -> Result<Vec<TensorType>, ShapeError> {
        self.arity(arity..=arity, "2")?;
        self.real(0)?;
        for i in 1..arity {
            self.alike(0, i)?;
        }
        Ok(vec![self.types[0].clone()])
    }

    fn norm(&self, arity: usize) -> Result<[usize; 4], ShapeError> {
        self.arity(arity..=arity, "5")?;
        let x = self.activations(0)?;
        for i in 1..arity {
            self.exactly(i, "a value for each channel", &x[3..])?;
        }
        Ok(x)
    }

    /// Checks the weights against the channels and gives cout.
    fn conv_weights(&self, i: usize, conv: &Conv2d, cin: usize) -> Result<usize, ShapeError> {
        let shape: Result<[usize; 4], _> = self.types[i].shape.as_slice().try_into();
        let Ok([cout, group_in, kh, kw]) = shape else {
            return Err(self.wrong(i, "weights [cout, cin/groups, kh, kw]"));
        };
        self.same("kernel rows", kh, conv.kh)?;
        self.same("kernel columns", kw, conv.kw)?;
        self.same("input channels", cin, group_in * conv.groups)?;
        self.same("output channels left over by the groups", cout % conv.groups, 0)?;
        Ok(cout)
    }

    fn too_small(&self, window: usize, height: usize, width: usize) -> ShapeError {
        ShapeError::TooSmall { op: self.op, window, height, width }
    }

    fn conv(&self, conv: &Conv2d) -> Result<Vec<TensorType>, ShapeError> {
        self.arity(2..=3, "2 or 3")?;
        let [n, h, w, c] = self.activations(0)?;
        let cout = self.conv_weights(1, conv, c)?;
        if self.types.len() == 3 {
            self.exactly(2, "a bias for each output channel", &[cout])?;
        }
        let size = conv.output_size(h, w);
        let (oh, ow) = size.ok_or_else(|| self.too_small(conv.kh.max(conv.kw), h, w))?;
        Ok(vec![self.stored_like(0, &[n, oh, ow, cout])])
    }

    fn int8_conv(&self, op: &Int8Conv2d) -> Result<Vec<TensorType>, ShapeError> {
        let (arity, expected) = if op.residual.is_some() { (5, "5") } else { (4, "4") };
        self.arity(arity..=arity, expected)?;
        let [n, h, w, c] = self.picture(0, DType::U8)?;
        let cout = self.conv_weights(1, &op.conv, c)?;
        self.exactly(2, "an offset for each output channel", &[cout])?;
        self.exactly(3, "a multiplier for each output channel", &[cout])?;
        self.same("channels of the padding", op.padding.len(), c)?;
        let size = op.conv.output_size(h, w);
        let (oh, ow) = size.ok_or_else(|| self.too_small(op.conv.kh.max(op.conv.kw), h, w))?;
        let y = TensorType::new(&[n, oh, ow, cout], DType::U8);
        if op.residual.is_some() && *self.types[4] != y {
            return Err(self.wrong(4, "a residual of the output's type"));
        }
        Ok(vec![y])
    }

    fn conv_input_grad(
        &self,
        conv: &Conv2d,
        [h, w]: [usize; 2],
    ) -> Result<Vec<TensorType>, ShapeError> {
        self.arity(2..=2, "2")?;
        let [n, oh, ow, cout] = self.activations(0)?;
        let cin = self.types[1].shape.get(1).map_or(0, |group| group * conv.groups);
        let made = self.conv_weights(1, conv, cin)?;
        self.same("output channels", cout, made)?;
        let size = conv.output_size(h, w);
        let size = size.ok_or_else(|| self.too_small(conv.kh.max(conv.kw), h, w))?;
        self.same("rows", oh, size.0)?;
        self.same("columns", ow, size.1)?;
        Ok(vec![self.stored_like(0, &[n, h, w, cin])])
    }

    fn conv_weight_grad(&self, conv: &Conv2d) -> Result<Vec<TensorType>, ShapeError> {
        self.arity(2..=2, "2")?;
        let [n, h, w, cin] = self.activations(0)?;
        let [m, oh, ow, cout] = self.activations(1)?;
        self.same("samples", m, n)?;
        if self.types[0].dtype != self.types[1].dtype {
            return Err(self.wrong(1, "a gradient that is stored as the input is"));
        }
        let size = conv.output_size(h, w);
        let size = size.ok_or_else(|| self.too_small(conv.kh.max(conv.kw), h, w))?;
        self.same("rows", oh, size.0)?;
        self.same("columns", ow, size.1)?;
        one(&[cout, cin / conv.groups, conv.kh, conv.kw])
    }

    fn pool(&self, pool: &Pool2d, [n, h, w, c]: [usize; 4]) -> Result<[usize; 4], ShapeError> {
        match (pool.output_len(h), pool.output_len(w)) {
            (Some(oh), Some(ow)) => Ok([n, oh, ow, c]),
            _ => Err(self.too_small(pool.kernel, h, w)),
        }
    }

    fn pool_grad(&self, pool: &Pool2d, [h, w]: [usize; 2]) -> Result<Vec<TensorType>, ShapeError> {
        let [n, oh, ow, c] = self.activations(0)?;
        let fits = pool.output_len(h) == Some(oh) && pool.output_len(w) == Some(ow);
        if !fits {
            return Err(self.too_small(pool.kernel, h, w));
        }
        Ok(vec![self.stored_like(0, &[n, h, w, c])])
    }

    /// Logits or probabilities with their targets: class numbers or distributions.
    fn targets(&self) -> Result<[usize; 2], ShapeError> {
        self.arity(2..=2, "2")?;
        let [n, k] = self.matrix(0)?;
        let targets = self.types[1];
        let fits = match targets.dtype {
            DType::U32 => targets.shape == [n],
            DType::F32 => targets.shape == [n, k],
            DType::U8 | DType::Bf16 => false,
        };
        if fits { Ok([n, k]) } else { Err(self.wrong(1, "class numbers [n] or targets [n, k]")) }
    }
}
