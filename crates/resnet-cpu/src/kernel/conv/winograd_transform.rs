//! Winograd's transforms on vectors, and the tiles that they belong to.
//!
//! Source: Lavin and Gray 2015, arXiv:1509.09308, sections 4 and 5. One function a matrix; what the
//! weight gradient needs are the transposes of the output's and the weights' transform.
//!
//! The transforms in two dimensions look alike, and stay apart: a transform that is passed to one
//! function as an argument is not inlined into the vector code, which then takes four times as long.

use resnet_simd::Simd;

use super::winograd;
use super::winograd_fold::Fold;
use super::{ConvShape, Direction};

/// Elements of the largest transformed tile.
pub(super) const MAX_TRANSFORMED: usize = 36;

/// Which tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tiles {
    /// F(2x2,3x3).
    Two,
    /// F(3x3,4x4) of a folded picture, for 7x7 of stride 2 (`winograd_fold.rs`).
    Three,
    /// F(4x4,3x3).
    Four,
}

impl Tiles {
    /// All of them, the more exact ones first.
    pub const ALL: [Tiles; 3] = [Tiles::Two, Tiles::Three, Tiles::Four];

    /// Outputs along a side.
    pub(super) fn outputs(self) -> usize {
        match self {
            Tiles::Two => 2,
            Tiles::Three => 3,
            Tiles::Four => 4,
        }
    }

    /// Inputs along a side.
    pub(super) fn inputs(self) -> usize {
        match self {
            Tiles::Two => 4,
            Tiles::Three | Tiles::Four => 6,
        }
    }

    /// Products of a tile for each pair of channels.
    pub(crate) fn products(self) -> usize {
        self.inputs() * self.inputs()
    }

    /// Whether they can compute this direction of a convolution.
    pub(crate) fn fit(self, shape: &ConvShape, direction: Direction) -> bool {
        match self {
            Tiles::Two | Tiles::Four => winograd::fits(shape),
            Tiles::Three => direction == Direction::Forward && Fold::fits(shape),
        }
    }

    /// Products of one picture for each pair of channels.
    pub(crate) fn products_of(self, shape: &ConvShape) -> usize {
        let along = |length: usize| length.div_ceil(self.outputs());
        along(shape.oh) * along(shape.ow) * self.products()
    }
}

/// The one-dimensional transforms of inputs and outputs, on vectors; arrays are as long as the larger
/// tiles need.
pub(super) trait Transform {
    const OUT: usize;
    const IN: usize;
    /// `Bᵀ d`.
    fn input<S: Simd>(s: S, d: &[S::F32; 6]) -> [S::F32; 6];
    /// `Aᵀ p`.
    fn output<S: Simd>(s: S, p: &[S::F32; 6]) -> [S::F32; 4];
}

/// Those of three taps, and what their gradient needs.
pub(super) trait ThreeTaps: Transform {
    /// `G g`.
    fn weight<S: Simd>(s: S, g: &[S::F32; 3]) -> [S::F32; 6];
    /// `A d`, the transpose of `output`, but for scales.
    fn output_gradient<S: Simd>(s: S, d: &[S::F32; 4]) -> [S::F32; 6];
    /// `Gᵀ u`, the transpose of `weight`, with the scales that `output_gradient` leaves out.
    fn weight_gradient<S: Simd>(s: S, u: &[S::F32; 6]) -> [S::F32; 3];
}

/// F(2,3), Lavin and Gray, equation 8: points 0, 1, −1.
pub(super) struct Two;

impl Transform for Two {
    const OUT: usize = 2;
    const IN: usize = 4;

    #[inline(always)]
    fn input<S: Simd>(s: S, d: &[S::F32; 6]) -> [S::F32; 6] {
        let zero = s.splat(0.0);
        [s.sub(d[0], d[2]), s.add(d[1], d[2]), s.sub(d[2], d[1]), s.sub(d[1], d[3]), zero, zero]
    }

    #[inline(always)]
    fn output<S: Simd>(s: S, p: &[S::F32; 6]) -> [S::F32; 4] {
        let zero = s.splat(0.0);
        let first = s.add(s.add(p[0], p[1]), p[2]);
        [first, s.sub(s.sub(p[1], p[2]), p[3]), zero, zero]
    }
}

impl ThreeTaps for Two {
    #[inline(always)]
    fn weight<S: Simd>(s: S, g: &[S::F32; 3]) -> [S::F32; 6] {
        let (half, zero) = (s.splat(0.5), s.splat(0.0));
        let ends = s.add(g[0], g[2]);
        let plus = s.mul(half, s.add(ends, g[1]));
        let minus = s.mul(half, s.sub(ends, g[1]));
        [g[0], plus, minus, g[2], zero, zero]
    }

    #[inline(always)]
    fn output_gradient<S: Simd>(s: S, d: &[S::F32; 4]) -> [S::F32; 6] {
        let zero = s.splat(0.0);
        [d[0], s.add(d[0], d[1]), s.sub(d[0], d[1]), s.sub(zero, d[1]), zero, zero]
    }

    #[inline(always)]
    fn weight_gradient<S: Simd>(s: S, u: &[S::F32; 6]) -> [S::F32; 3] {
        let half = s.splat(0.5);
        let middle = s.mul(half, s.add(u[1], u[2]));
        [s.add(u[0], middle), s.mul(half, s.sub(u[1], u[2])), s.add(middle, u[3])]
    }
}

/// F(4,3) with the points 0, ±3/4, ±3/2 and infinity.
///
/// Lavin and Gray take 0, ±1, ±2 (section 5.2). Points whose powers stay nearer to 1 halve the error
/// for the same operations (rms over direct convolution's in a simulation with 128 channels: 2.1
/// instead of 4.1), and all constants of the input's transform are exact in binary.
///
/// Each point has a scale, one over the product of its distances to the others, which either G or A may
/// have, for the same error. Where outputs are computed it is A's, but for that of 0, so that weights that are
/// transformed in a run cost few operations; in the weight gradient it is G's, which comes once for all tiles.
pub(super) struct Four;

impl Four {
    /// The points and their powers.
    const A: f32 = 0.75;
    const A2: f32 = Self::A * Self::A;
    const A3: f32 = Self::A * Self::A2;
    const B: f32 = 1.5;
    const B2: f32 = Self::B * Self::B;
    const B3: f32 = Self::B * Self::B2;
    /// The scales.
    const SCALE_0: f32 = 64.0 / 81.0;
    const SCALE_A: f32 = -128.0 / 243.0;
    const SCALE_B: f32 = 32.0 / 243.0;
    /// The same times the powers.
    const SCALE_A1: f32 = -32.0 / 81.0;
    const SCALE_B1: f32 = 16.0 / 81.0;
    const SCALE_A2: f32 = -8.0 / 27.0;
    const SCALE_B2: f32 = 8.0 / 27.0;
    const SCALE_A3: f32 = -2.0 / 9.0;
    const SCALE_B3: f32 = 4.0 / 9.0;
}

impl Transform for Four {
    const OUT: usize = 4;
    const IN: usize = 6;

    #[inline(always)]
    fn input<S: Simd>(s: S, d: &[S::F32; 6]) -> [S::F32; 6] {
        let (a2, b2) = (s.splat(-Self::A2), s.splat(-Self::B2));
        let (product, sum) = (s.splat(Self::A2 * Self::B2), s.splat(-Self::A2 - Self::B2));
        let first = s.mul_add(product, d[0], s.mul_add(sum, d[2], d[4]));
        let last = s.mul_add(product, d[1], s.mul_add(sum, d[3], d[5]));
        let even_a = s.mul_add(b2, d[2], d[4]);
        let odd_a = s.mul(s.splat(Self::A), s.mul_add(b2, d[1], d[3]));
        let even_b = s.mul_add(a2, d[2], d[4]);
        let odd_b = s.mul(s.splat(Self::B), s.mul_add(a2, d[1], d[3]));
        [
            first,
            s.add(even_a, odd_a),
            s.sub(even_a, odd_a),
            s.add(even_b, odd_b),
            s.sub(even_b, odd_b),
            last,
        ]
    }

    #[inline(always)]
    fn output<S: Simd>(s: S, p: &[S::F32; 6]) -> [S::F32; 4] {
        let (sum_a, difference_a) = (s.add(p[1], p[2]), s.sub(p[1], p[2]));
        let (sum_b, difference_b) = (s.add(p[3], p[4]), s.sub(p[3], p[4]));
        let first = s.mul_add(s.splat(Self::SCALE_A), sum_a, p[0]);
        let second = s.mul(s.splat(Self::SCALE_A1), difference_a);
        let third = s.mul(s.splat(Self::SCALE_A2), sum_a);
        let fourth = s.mul_add(s.splat(Self::SCALE_A3), difference_a, p[5]);
        [
            s.mul_add(s.splat(Self::SCALE_B), sum_b, first),
            s.mul_add(s.splat(Self::SCALE_B1), difference_b, second),
            s.mul_add(s.splat(Self::SCALE_B2), sum_b, third),
            s.mul_add(s.splat(Self::SCALE_B3), difference_b, fourth),
        ]
    }
}

impl ThreeTaps for Four {
    #[inline(always)]
    fn weight<S: Simd>(s: S, g: &[S::F32; 3]) -> [S::F32; 6] {
        let even_a = s.mul_add(s.splat(Self::A2), g[2], g[0]);
        let even_b = s.mul_add(s.splat(Self::B2), g[2], g[0]);
        [
            s.mul(s.splat(Self::SCALE_0), g[0]),
            s.mul_add(s.splat(Self::A), g[1], even_a),
            s.mul_add(s.splat(-Self::A), g[1], even_a),
            s.mul_add(s.splat(Self::B), g[1], even_b),
            s.mul_add(s.splat(-Self::B), g[1], even_b),
            g[2],
        ]
    }

    #[inline(always)]
    fn output_gradient<S: Simd>(s: S, d: &[S::F32; 4]) -> [S::F32; 6] {
        let (a, a2, a3) = (s.splat(Self::A), s.splat(Self::A2), s.splat(Self::A3));
        let (b, b2, b3) = (s.splat(Self::B), s.splat(Self::B2), s.splat(Self::B3));
        let (even_a, odd_a) = (s.mul_add(a2, d[2], d[0]), s.mul_add(a3, d[3], s.mul(a, d[1])));
        let (even_b, odd_b) = (s.mul_add(b2, d[2], d[0]), s.mul_add(b3, d[3], s.mul(b, d[1])));
        [
            d[0],
            s.add(even_a, odd_a),
            s.sub(even_a, odd_a),
            s.add(even_b, odd_b),
            s.sub(even_b, odd_b),
            d[3],
        ]
    }

    #[inline(always)]
    fn weight_gradient<S: Simd>(s: S, u: &[S::F32; 6]) -> [S::F32; 3] {
        let (sum_a, difference_a) = (s.add(u[1], u[2]), s.sub(u[1], u[2]));
        let (sum_b, difference_b) = (s.add(u[3], u[4]), s.sub(u[3], u[4]));
        let first = s.mul_add(s.splat(Self::SCALE_B), sum_b, s.mul(s.splat(Self::SCALE_0), u[0]));
        let middle = s.mul(s.splat(Self::SCALE_B1), difference_b);
        let last = s.mul_add(s.splat(Self::SCALE_B2), sum_b, u[5]);
        [
            s.mul_add(s.splat(Self::SCALE_A), sum_a, first),
            s.mul_add(s.splat(Self::SCALE_A1), difference_a, middle),
            s.mul_add(s.splat(Self::SCALE_A2), sum_a, last),
        ]
    }
}

/// F(3,4), with the points and scales of [`Four`]: its inputs are as many.
pub(super) struct Three;

impl Three {
    /// `G g`: the cubic of four taps at the points, as [`Four`] has it of four outputs, and the scale of 0.
    #[inline(always)]
    pub(super) fn weight<S: Simd>(s: S, g: &[S::F32; 4]) -> [S::F32; 6] {
        let mut at_points = Four::output_gradient(s, g);
        at_points[0] = s.mul(s.splat(Four::SCALE_0), at_points[0]);
        at_points
    }

    /// What the products of the first three points, 0 and ±3/4, are to the outputs.
    #[inline(always)]
    pub(super) fn first_half<S: Simd>(s: S, p: &[S::F32; 3]) -> [S::F32; 3] {
        let (sum, difference) = (s.add(p[1], p[2]), s.sub(p[1], p[2]));
        [
            s.mul_add(s.splat(Four::SCALE_A), sum, p[0]),
            s.mul(s.splat(Four::SCALE_A1), difference),
            s.mul(s.splat(Four::SCALE_A2), sum),
        ]
    }

    /// The outputs: what those of the other points, ±3/2 and infinity, add to the first half.
    #[inline(always)]
    pub(super) fn second_half<S: Simd>(s: S, p: &[S::F32; 3], first: &[S::F32; 3]) -> [S::F32; 3] {
        let (sum, difference) = (s.add(p[0], p[1]), s.sub(p[0], p[1]));
        [
            s.mul_add(s.splat(Four::SCALE_B), sum, first[0]),
            s.mul_add(s.splat(Four::SCALE_B1), difference, first[1]),
            s.mul_add(s.splat(Four::SCALE_B2), sum, s.add(first[2], p[2])),
        ]
    }
}

impl Transform for Three {
    const OUT: usize = 3;
    const IN: usize = 6;

    #[inline(always)]
    fn input<S: Simd>(s: S, d: &[S::F32; 6]) -> [S::F32; 6] {
        Four::input(s, d)
    }

    #[inline(always)]
    fn output<S: Simd>(s: S, p: &[S::F32; 6]) -> [S::F32; 4] {
        let first = Self::first_half(s, &[p[0], p[1], p[2]]);
        let [y0, y1, y2] = Self::second_half(s, &[p[3], p[4], p[5]], &first);
        [y0, y1, y2, s.splat(0.0)]
    }
}

/// A two-dimensional transform of the input: columns, then rows.
#[inline(always)]
pub(super) fn transform_square<T: Transform, S: Simd>(
    s: S,
    load: impl Fn(usize) -> S::F32,
    store: impl Fn(usize, S::F32),
) {
    let zero = s.splat(0.0);
    let mut rows = [[zero; 6]; 6];
    for column in 0..T::IN {
        let mut d = [zero; 6];
        for (row, d) in d[..T::IN].iter_mut().enumerate() {
            *d = load(row * T::IN + column);
        }
        for (row, &value) in rows.iter_mut().zip(&T::input(s, &d)) {
            row[column] = value;
        }
    }
    for (y, row) in rows[..T::IN].iter().enumerate() {
        for (x, &value) in T::input(s, row)[..T::IN].iter().enumerate() {
            store(y * T::IN + x, value);
        }
    }
}

/// The outputs of one tile for a vector of channels; product `p` is at `products[p * stride]`, the
/// outputs inside the picture go to rows of `to.0`, `to.1` floats apart.
#[inline(always)]
pub(super) fn output_square<T: Transform, S: Simd>(
    s: S,
    products: &[f32],
    stride: usize,
    (tall, wide): (usize, usize),
    (to, width): (&mut [f32], usize),
) {
    let zero = s.splat(0.0);
    let mut rows = [[zero; 6]; 4];
    for column in 0..T::IN {
        let mut p = [zero; 6];
        for (row, p) in p[..T::IN].iter_mut().enumerate() {
            *p = s.load(&products[(row * T::IN + column) * stride..]);
        }
        for (row, &value) in rows.iter_mut().zip(&T::output(s, &p)) {
            row[column] = value;
        }
    }
    for (y, row) in rows[..tall].iter().enumerate() {
        for (x, &value) in T::output(s, row)[..wide].iter().enumerate() {
            s.store(value, &mut to[(y * wide + x) * width..]);
        }
    }
}

/// `A d Aᵀ` of a tile's output gradient; `load(y * OUT + x)` gives its elements.
#[inline(always)]
pub(super) fn output_gradient_square<T: ThreeTaps, S: Simd>(
    s: S,
    load: impl Fn(usize) -> S::F32,
    store: impl Fn(usize, S::F32),
) {
    let zero = s.splat(0.0);
    let mut rows = [[zero; 4]; 6];
    for column in 0..T::OUT {
        let mut d = [zero; 4];
        for (row, d) in d[..T::OUT].iter_mut().enumerate() {
            *d = load(row * T::OUT + column);
        }
        for (row, &value) in rows.iter_mut().zip(&T::output_gradient(s, &d)) {
            row[column] = value;
        }
    }
    for (y, row) in rows[..T::IN].iter().enumerate() {
        for (x, &value) in T::output_gradient(s, row)[..T::IN].iter().enumerate() {
            store(y * T::IN + x, value);
        }
    }
}

/// `Gᵀ u G`, the 3x3 gradient of the weights; `load(p)` gives the sums of product `p`.
#[inline(always)]
pub(super) fn weight_gradient_square<T: ThreeTaps, S: Simd>(
    s: S,
    load: impl Fn(usize) -> S::F32,
    mut store: impl FnMut(usize, S::F32),
) {
    let zero = s.splat(0.0);
    let mut rows = [[zero; 6]; 3];
    for column in 0..T::IN {
        let mut u = [zero; 6];
        for (row, u) in u[..T::IN].iter_mut().enumerate() {
            *u = load(row * T::IN + column);
        }
        for (row, &value) in rows.iter_mut().zip(&T::weight_gradient(s, &u)) {
            row[column] = value;
        }
    }
    for (y, row) in rows.iter().enumerate() {
        for (x, &value) in T::weight_gradient(s, row).iter().enumerate() {
            store(3 * y + x, value);
        }
    }
}
