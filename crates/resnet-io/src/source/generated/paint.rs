//! Painting one generated picture: background, clutter, the figure, a stroke across it, noise.
//!
//! All draws come from one stream, and every class draws the same things in the same order, so that nothing
//! but the figure tells the classes apart. Arithmetic is f32 with `libm` where the standard library's
//! functions may differ between systems: a picture is the same bytes everywhere.

use resnet_core::rng::Stream;

use super::shapes::Figure;

/// Smallest and largest radius of the figure, as shares of the side.
const RADIUS: (f32, f32) = (0.24, 0.42);
/// Least distance between the figure's colour and the background's, in RGB with channels from 0 to 1.
const CONTRAST: f32 = 0.45;
/// Strokes and specks behind the figure.
const CLUTTER: u32 = 7;
/// Points on a side of the coarse noise behind everything.
const GRID: usize = 5;
/// Half the width of the uniform noise on every value, of 255.
const NOISE: f32 = 16.0;

type Colour = [f32; 3];

/// Paints a picture of `side * side` pixels into `pixels`, `[side, side, 3]`.
pub(super) fn paint(figure: &Figure, side: usize, stream: &mut Stream, pixels: &mut [u8]) {
    let mut canvas = Canvas { side, values: vec![[0.0; 3]; side * side] };
    let background = [colour(stream), colour(stream)];
    canvas.paint_background(background, stream);
    for _ in 0..CLUTTER {
        let mark = colour(stream);
        canvas.paint_stroke(mark, stream);
    }
    canvas.paint_figure(figure, background, stream);
    let mark = colour(stream);
    canvas.paint_stroke(mark, stream);
    canvas.write(stream, pixels);
}

fn colour(stream: &mut Stream) -> Colour {
    std::array::from_fn(|_| stream.uniform())
}

fn between(stream: &mut Stream, (low, high): (f32, f32)) -> f32 {
    low + (high - low) * stream.uniform()
}

fn distance(a: Colour, b: Colour) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f32>().sqrt()
}

/// A colour far from those in `others`: the first of 16 draws that is, else the farthest.
///
/// The number of draws is fixed, so that what follows in the stream does not depend on the colours.
fn contrasting(others: &[Colour], stream: &mut Stream) -> Colour {
    let mut best = ([0.0; 3], -1.0);
    for _ in 0..16 {
        let candidate = colour(stream);
        let nearest = others.iter().map(|&o| distance(o, candidate)).fold(f32::MAX, f32::min);
        if best.1 < CONTRAST && best.1 < nearest {
            best = (candidate, nearest);
        }
    }
    best.0
}

struct Canvas {
    side: usize,
    values: Vec<Colour>,
}

impl Canvas {
    /// Two colours mixed by smooth noise: bilinear between random values on a coarse grid.
    fn paint_background(&mut self, colours: [Colour; 2], stream: &mut Stream) {
        let grid: [[f32; GRID]; GRID] =
            std::array::from_fn(|_| std::array::from_fn(|_| stream.uniform()));
        let cell = (GRID - 1) as f32 / self.side as f32;
        for y in 0..self.side {
            let v = (y as f32 + 0.5) * cell;
            let (row, fy) = (v as usize, v.fract());
            for x in 0..self.side {
                let u = (x as f32 + 0.5) * cell;
                let (column, fx) = (u as usize, u.fract());
                let mix = |row: usize| grid[row][column] * (1.0 - fx) + grid[row][column + 1] * fx;
                let share = mix(row) * (1.0 - fy) + mix(row + 1) * fy;
                self.values[y * self.side + x] = blend(colours[0], colours[1], share);
            }
        }
    }

    /// A short straight stroke, or a speck where its length is small.
    fn paint_stroke(&mut self, colour: Colour, stream: &mut Stream) {
        let side = self.side as f32;
        let (x0, y0) = (side * stream.uniform(), side * stream.uniform());
        let (cos, sin) = direction(stream);
        let length = side * between(stream, (0.0, 0.3));
        let half_width = side * between(stream, (0.012, 0.03));
        let (x1, y1) = (x0 + length * cos, y0 + length * sin);
        let reach = half_width + 1.0;
        let rows = self.range(y0.min(y1) - reach, y0.max(y1) + reach);
        let columns = self.range(x0.min(x1) - reach, x0.max(x1) + reach);
        for y in rows {
            for x in columns.clone() {
                let (dx, dy) = (x as f32 + 0.5 - x0, y as f32 + 0.5 - y0);
                let along = (dx * cos + dy * sin).clamp(0.0, length);
                let (rx, ry) = (dx - along * cos, dy - along * sin);
                let outside = (rx * rx + ry * ry).sqrt() - half_width;
                self.cover(x, y, colour, outside);
            }
        }
    }

    /// The figure itself, wherever it fits.
    fn paint_figure(&mut self, figure: &Figure, background: [Colour; 2], stream: &mut Stream) {
        let side = self.side as f32;
        let radius = side * between(stream, RADIUS);
        let margin = 0.9 * radius;
        let centre_x = between(stream, (margin, side - margin));
        let centre_y = between(stream, (margin, side - margin));
        let (cos, sin) = direction(stream);
        let first = contrasting(&background, stream);
        let second = contrasting(&[first], stream);
        // Periods of about 4 to 6 pixels in a picture of 32: fine enough to be a texture, coarse enough to see.
        let cells = radius / (side * between(stream, (0.125, 0.19)));
        let patch_is_round = stream.uniform() < 0.5;
        let patch = if patch_is_round { Figure::Disc } else { Figure::Square };
        let reach = 1.2 * radius + 1.0;
        let columns = self.range(centre_x - reach, centre_x + reach);
        for y in self.range(centre_y - reach, centre_y + reach) {
            for x in columns.clone() {
                let dx = (x as f32 + 0.5 - centre_x) / radius;
                let dy = (y as f32 + 0.5 - centre_y) / radius;
                let (u, v) = (cos * dx + sin * dy, cos * dy - sin * dx);
                let inner = radius * figure.distance(u, v, cells);
                if figure.is_texture() {
                    let outer = radius * patch.distance(u, v, cells);
                    self.cover(x, y, first, outer);
                    self.cover(x, y, second, inner.max(outer));
                } else {
                    self.cover(x, y, first, inner);
                }
            }
        }
    }

    /// The pixels from `low` to `high`, as far as they are on the canvas.
    fn range(&self, low: f32, high: f32) -> std::ops::Range<usize> {
        let end = (high.ceil().max(0.0) as usize).min(self.side);
        (low.floor().max(0.0) as usize).min(end)..end
    }

    /// Lays a colour over a pixel whose centre is `outside` pixels outside of an outline.
    fn cover(&mut self, x: usize, y: usize, colour: Colour, outside: f32) {
        let share = (0.5 - outside).clamp(0.0, 1.0);
        let value = &mut self.values[y * self.side + x];
        *value = blend(*value, colour, share);
    }

    /// Adds noise and rounds to bytes.
    fn write(&self, stream: &mut Stream, pixels: &mut [u8]) {
        let mut random = 0u32;
        for (index, (byte, value)) in pixels.iter_mut().zip(self.values.as_flattened()).enumerate()
        {
            // One draw serves four values, a byte each.
            random = if index % 4 == 0 { stream.next_u32() } else { random >> 8 };
            let noise = ((random & 0xff) as f32 - 127.5) * (NOISE / 127.5);
            *byte = (value * 255.0 + noise + 0.5).clamp(0.0, 255.0) as u8;
        }
    }
}

fn blend(a: Colour, b: Colour, share: f32) -> Colour {
    std::array::from_fn(|i| a[i] + (b[i] - a[i]) * share)
}

/// Cosine and sine of an angle that is uniform around the circle.
fn direction(stream: &mut Stream) -> (f32, f32) {
    let angle = std::f32::consts::TAU * stream.uniform();
    (libm::cosf(angle), libm::sinf(angle))
}
