//! A convolution or classifier on bytes: its numbers, from f32 weights and the scales around it.

use crate::int8::MAX_WEIGHT;
use crate::op::Affine;

/// Offsets and sums that stay below this in magnitude are exact in 32 bits together with any sum of
/// products that a network has.
const MAX_OFFSET: f64 = (1 << 30) as f64;
/// A bias counts at most so many steps of the sum: a channel whose weights are all but zero would
/// overflow otherwise.
const MAX_BIAS_STEPS: f64 = (1 << 24) as f64;
/// The clipping points that are tried for each output channel, as shares of its largest weight.
const CLIPPINGS: [f64; 9] = [1.0, 0.97, 0.94, 0.91, 0.88, 0.85, 0.82, 0.79, 0.76];

/// What the bytes of a layer's input stand for.
#[derive(Clone, Debug, PartialEq)]
pub enum LayerInput {
    /// The same in all channels.
    Bytes(Affine),
    /// Pixels: `(q / 255 - mean) / std` of each channel.
    Pixels {
        /// Mean of each channel, of pixels in 0..1.
        mean: Vec<f64>,
        /// Standard deviation of each channel.
        std: Vec<f64>,
    },
}

impl LayerInput {
    /// For each channel the byte that is nearest to 0.
    pub fn padding(&self, channels: usize) -> Vec<u8> {
        match self {
            LayerInput::Bytes(affine) => vec![affine.zero; channels],
            LayerInput::Pixels { mean, .. } => {
                mean.iter().map(|mean| (255.0 * mean).round() as u8).collect()
            }
        }
    }

    /// Scale and exact zero of a channel.
    fn channel(&self, channel: usize) -> (f64, f64) {
        match self {
            LayerInput::Bytes(affine) => (f64::from(affine.scale), f64::from(affine.zero)),
            LayerInput::Pixels { mean, std } => {
                (1.0 / (255.0 * std[channel]), 255.0 * mean[channel])
            }
        }
    }
}

/// A layer's weights in 8 bits: `w = scale * value` by output channel, times the input's scale.
#[derive(Clone, Debug, PartialEq)]
pub struct Int8Weights {
    /// Whole numbers of at most [`MAX_WEIGHT`] in magnitude, in the order of the weights.
    pub values: Vec<i8>,
    /// What 1 stands for, for each output channel. Of a first layer the weights are those that read
    /// pixels in 0..=255.
    pub scale: Vec<f32>,
    /// The bias of each output channel.
    pub bias: Vec<f32>,
}

/// A convolution or classifier on bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizedLayer {
    /// Its name, such as `layer1.0.conv1`.
    pub name: String,
    /// The state of the graph before that holds its weights.
    pub weight: String,
    /// The state of the graph before that holds its bias, if there is one.
    pub bias: Option<String>,
    /// Shape of the weights: `[cout, cin/groups, kh, kw]` or `[cout, cin]`.
    pub shape: Vec<usize>,
    /// What its input stands for.
    pub input: LayerInput,
    /// What the residual stands for that it adds, if it does.
    pub residual: Option<Affine>,
    /// What its output stands for; none: real numbers.
    pub output: Option<Affine>,
}

impl QuantizedLayer {
    /// The states of the graph on bytes: weights, offsets, multipliers.
    pub fn state_names(&self) -> [String; 3] {
        ["weight", "offset", "multiplier"].map(|what| format!("int8/{}.{what}", self.name))
    }

    /// What a byte of the residual counts in the result.
    pub fn residual_factor(&self) -> Option<f32> {
        let (residual, output) = (self.residual?, self.output?);
        Some((f64::from(residual.scale) / f64::from(output.scale)) as f32)
    }

    fn cout(&self) -> usize {
        self.shape[0]
    }

    fn per_output(&self) -> usize {
        self.shape[1..].iter().product()
    }

    /// The input channel, of the first group, of place `i` among an output's weights. Groups share
    /// what their bytes stand for, but pixels, which have one group.
    fn input_channel(&self, i: usize) -> usize {
        i / self.shape[2..].iter().product::<usize>()
    }

    /// Weights that read bytes: of pixels they take each channel's scale.
    fn byte_weights(&self, w: &[f32]) -> Vec<f64> {
        let scale = |i: usize| match &self.input {
            LayerInput::Bytes(_) => 1.0,
            LayerInput::Pixels { .. } => self.input.channel(self.input_channel(i)).0,
        };
        let per_output = self.per_output();
        w.iter().enumerate().map(|(i, &w)| f64::from(w) * scale(i % per_output)).collect()
    }

    /// The scale that bytes of the input share; 1 for pixels.
    fn shared_scale(&self) -> f64 {
        match &self.input {
            LayerInput::Bytes(affine) => f64::from(affine.scale),
            LayerInput::Pixels { .. } => 1.0,
        }
    }

    /// Rounds weights, each output channel with the scale of the least squared error.
    ///
    /// # Panics
    /// If the lengths do not fit the layer.
    pub fn weights(&self, w: &[f32], bias: Option<&[f32]>) -> Int8Weights {
        assert_eq!(w.len(), self.cout() * self.per_output(), "weights");
        let bias = bias.map_or_else(|| vec![0.0; self.cout()], <[f32]>::to_vec);
        assert_eq!(bias.len(), self.cout(), "bias");
        let w = self.byte_weights(w);
        let (mut values, mut scale) = (Vec::with_capacity(w.len()), Vec::new());
        for (w, &bias) in w.chunks_exact(self.per_output()).zip(&bias) {
            let least = f64::from(bias.abs()) / (MAX_BIAS_STEPS * self.shared_scale());
            let step = best_scale(w).max(least).max(f64::from(f32::MIN_POSITIVE)) as f32;
            values.extend(w.iter().map(|&w| nearest(w, f64::from(step)) as i8));
            scale.push(step);
        }
        Int8Weights { values, scale, bias }
    }

    /// Offsets and multipliers of the operation.
    ///
    /// `y / sy + zy = ((sum of q * w) - zx * (sum of w) + bias / (sx sw)) * sx sw / sy + zy + r`, the
    /// residual `r = (qr - zr) * sr / sy`: all that no byte is part of goes into the offset.
    ///
    /// # Panics
    /// If the weights are of another layer.
    pub fn constants(&self, weights: &Int8Weights) -> (Vec<f32>, Vec<f32>) {
        let to = self.output.map_or(1.0, |output| f64::from(output.scale));
        let mut shift = self.output.map_or(0.0, |output| f64::from(output.zero));
        if let (Some(residual), Some(factor)) = (self.residual, self.residual_factor()) {
            shift -= f64::from(residual.zero) * f64::from(factor);
        }
        let rows = weights.values.chunks_exact(self.per_output());
        let channels = rows.zip(&weights.scale).zip(&weights.bias).map(|((w, &scale), &bias)| {
            let step = self.shared_scale() * f64::from(scale);
            let multiplier = (step / to) as f32;
            let zero =
                |(i, &w): (usize, &i8)| f64::from(w) * self.input.channel(self.input_channel(i)).1;
            let zeros: f64 = w.iter().enumerate().map(zero).sum();
            let offset = f64::from(bias) / step + shift / f64::from(multiplier) - zeros;
            // A whole number that f32 holds.
            (offset.clamp(-MAX_OFFSET, MAX_OFFSET).round() as f32, multiplier)
        });
        channels.unzip()
    }
}

fn nearest(w: f64, scale: f64) -> f64 {
    let limit = f64::from(MAX_WEIGHT);
    (w / scale).round_ties_even().clamp(-limit, limit)
}

/// The scale with the least squared error, of some clipping points.
fn best_scale(w: &[f64]) -> f64 {
    let largest = w.iter().fold(0.0, |m: f64, w| m.max(w.abs()));
    if largest == 0.0 {
        return 1.0;
    }
    let error =
        |scale: f64| -> f64 { w.iter().map(|&w| (w - scale * nearest(w, scale)).powi(2)).sum() };
    let scales = CLIPPINGS.map(|clip| clip * largest / f64::from(MAX_WEIGHT));
    scales.into_iter().min_by(|a, b| error(*a).total_cmp(&error(*b))).expect("there are some")
}
