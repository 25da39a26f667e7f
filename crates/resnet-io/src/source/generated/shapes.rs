//! What the generated classes look like: shapes as signed distances, textures as patterns on a patch.
//!
//! Distances are in units of the figure's radius, negative inside, exact next to straight and round edges and
//! too small beyond corners, which is all that smooth edges need.

use resnet_core::rng::{Purpose, Stream};

/// The seed of the looks of classes beyond the tenth: the same for every set, so that a class keeps its look.
const LOOK_SEED: u64 = 0;

/// Harmonics of a blob's outline.
const HARMONICS: usize = 4;

/// What one class shows.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Figure {
    /// A filled circle.
    Disc,
    /// A circle with a hole.
    Ring,
    /// A filled square.
    Square,
    /// A filled equilateral triangle.
    Triangle,
    /// A five-pointed star.
    Star,
    /// Two crossing bars.
    Cross,
    /// A disc without another disc.
    Crescent,
    /// A patch of parallel stripes.
    Stripes,
    /// A patch of a checkerboard.
    Checks,
    /// A patch of dots on a grid.
    Dots,
    /// Classes beyond the tenth: a round outline with bumps of its own.
    Blob {
        /// The class.
        class: u32,
        /// Cosine and sine coefficients of the radius, for 2, 3, 4, … bumps around.
        harmonics: [(f32, f32); HARMONICS],
    },
}

impl Figure {
    /// The figure of class `class`.
    pub(super) fn of_class(class: u32) -> Figure {
        match class {
            0 => Figure::Disc,
            1 => Figure::Ring,
            2 => Figure::Square,
            3 => Figure::Triangle,
            4 => Figure::Star,
            5 => Figure::Cross,
            6 => Figure::Crescent,
            7 => Figure::Stripes,
            8 => Figure::Checks,
            9 => Figure::Dots,
            _ => {
                let mut stream = Stream::new(LOOK_SEED, Purpose::GeneratedClass, class, 0);
                let mut draw = || 0.36 * (stream.uniform() - 0.5);
                Figure::Blob { class, harmonics: std::array::from_fn(|_| (draw(), draw())) }
            }
        }
    }

    /// The name of the class.
    pub(super) fn name(&self) -> String {
        match self {
            Figure::Disc => "disc".into(),
            Figure::Ring => "ring".into(),
            Figure::Square => "square".into(),
            Figure::Triangle => "triangle".into(),
            Figure::Star => "star".into(),
            Figure::Cross => "cross".into(),
            Figure::Crescent => "crescent".into(),
            Figure::Stripes => "stripes".into(),
            Figure::Checks => "checks".into(),
            Figure::Dots => "dots".into(),
            Figure::Blob { class, .. } => format!("blob{class:03}"),
        }
    }

    /// Whether the figure is a pattern of two colours on a patch, not a shape of one.
    pub(super) fn is_texture(&self) -> bool {
        matches!(self, Figure::Stripes | Figure::Checks | Figure::Dots)
    }

    /// Signed distance of a point to the shape's outline; for a texture, to its second colour.
    ///
    /// `cells` is the number of periods of a texture in one radius.
    pub(super) fn distance(&self, x: f32, y: f32, cells: f32) -> f32 {
        match self {
            Figure::Disc => length(x, y) - 0.92,
            Figure::Ring => (length(x, y) - 0.74).abs() - 0.25,
            Figure::Square => box_distance(x, y, 0.78, 0.78),
            Figure::Triangle => triangle(x, y),
            Figure::Star => star(x, y),
            Figure::Cross => box_distance(x, y, 1.0, 0.29).min(box_distance(x, y, 0.29, 1.0)),
            Figure::Crescent => (length(x, y) - 1.0).max(0.84 - length(x - 0.52, y)),
            Figure::Stripes => wave(x * cells) / cells,
            Figure::Checks => {
                let (a, b) = (wave(x * cells), wave(y * cells));
                // Inside where exactly one of the two stripes is: the product of their signs.
                let inside = (a < 0.0) != (b < 0.0);
                let depth = a.abs().min(b.abs()) / cells;
                if inside { -depth } else { depth }
            }
            Figure::Dots => {
                let (a, b) = (centred(x * cells), centred(y * cells));
                (length(a, b) - 0.31) / cells
            }
            Figure::Blob { harmonics, .. } => blob(x, y, harmonics),
        }
    }
}

fn length(x: f32, y: f32) -> f32 {
    (x * x + y * y).sqrt()
}

/// Distance to stripes of period 1 that are as wide as the gaps, in periods.
fn wave(x: f32) -> f32 {
    centred(x).abs() - 0.25
}

/// `x` minus the nearest whole number.
fn centred(x: f32) -> f32 {
    x - (x + 0.5).floor()
}

fn box_distance(x: f32, y: f32, half_width: f32, half_height: f32) -> f32 {
    (x.abs() - half_width).max(y.abs() - half_height)
}

/// An equilateral triangle, corners on the circle of radius 1.05: the farthest of its three sides' lines.
fn triangle(x: f32, y: f32) -> f32 {
    const HALF_SQRT_3: f32 = 0.866_025_4;
    (HALF_SQRT_3 * x.abs() + 0.5 * y).max(-y) - 1.05 / 2.0
}

/// A star of five points with an inner radius of 0.48.
///
/// Reflections at the lines through the notches take every point to the wedge around the point that looks up;
/// there the star is what lies below one edge, from the tip to the notch 36 degrees away.
fn star(x: f32, y: f32) -> f32 {
    const OUTER: f32 = 1.08;
    const INNER: f32 = 0.48;
    const COS_36: f32 = 0.809_017;
    const SIN_36: f32 = 0.587_785_25;
    let (mut px, mut py) = (x.abs(), y);
    for normal in [(COS_36, -SIN_36), (-COS_36, -SIN_36)] {
        let beyond = (normal.0 * px + normal.1 * py).max(0.0);
        (px, py) = (px - 2.0 * beyond * normal.0, py - 2.0 * beyond * normal.1);
    }
    let edge = (INNER * SIN_36, INNER * COS_36 - OUTER);
    // The edge's normal points away from the centre.
    (edge.0 * (py - OUTER) - edge.1 * px.abs()) / length(edge.0, edge.1)
}

/// Distance along the ray to the outline `0.8 + sum of harmonics`, which is close enough for smooth edges.
fn blob(x: f32, y: f32, harmonics: &[(f32, f32); HARMONICS]) -> f32 {
    let radius = length(x, y);
    if radius < 1e-6 {
        return -0.5;
    }
    // Powers of (cos t, sin t) give the harmonics without a call of the sine.
    let (cos, sin) = (x / radius, y / radius);
    let (mut c, mut s) = (cos, sin);
    let mut outline = 0.8;
    for (a, b) in harmonics {
        (c, s) = (c * cos - s * sin, c * sin + s * cos);
        outline += a * c + b * s;
    }
    radius - outline.max(0.25)
}
