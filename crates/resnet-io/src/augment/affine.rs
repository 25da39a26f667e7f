//! Rotation, shear and translation, as torchvision does them with Pillow: to the nearest pixel, black outside.
//!
//! Sources: Pillow's `Image.rotate`, `ImagingTransformAffine` of `Geometry.c`; torchvision's
//! `_get_inverse_affine_matrix`.

use crate::picture::{Image, ImageRef};

/// From a place in the result to a place in the picture: `x' = m[0] x + m[1] y + m[2]`, `y' = m[3] x + m[4] y + m[5]`.
type Matrix = [f64; 6];

/// Turns a picture against the clock about its middle; the size stays.
pub(super) fn rotate(picture: ImageRef<'_>, degrees: f64) -> Image {
    let turn = degrees.rem_euclid(360.0);
    let is_square = picture.width == picture.height;
    if turn == 0.0 {
        return picture.to_image();
    } else if turn == 180.0 {
        return quarter_turns(picture, 2);
    } else if is_square && (turn == 90.0 || turn == 270.0) {
        return quarter_turns(picture, if turn == 90.0 { 1 } else { 3 });
    }
    let angle = -turn.to_radians();
    let (cos, sin) = (fifteen_digits(libm::cos(angle)), fifteen_digits(libm::sin(angle)));
    let (x, y) = (picture.width as f64 / 2.0, picture.height as f64 / 2.0);
    let shift_x = cos * -x + sin * -y + 0.0 + x;
    let shift_y = -sin * -x + cos * -y + 0.0 + y;
    transform(picture, [cos, sin, shift_x, -sin, cos, shift_y])
}

/// Pillow's `round(x, 15)`: a cosine that should be zero is.
fn fifteen_digits(x: f64) -> f64 {
    format!("{x:.15}").parse().expect("a number that was just written is one")
}

/// Turns by so many times 90 degrees against the clock; odd ones only of square pictures.
fn quarter_turns(picture: ImageRef<'_>, turns: u32) -> Image {
    let (width, height) = (picture.width, picture.height);
    let place = |x: usize, y: usize| match turns {
        1 => (width - 1 - y, x),
        2 => (width - 1 - x, height - 1 - y),
        _ => (y, height - 1 - x),
    };
    let at = |(x, y): (usize, usize)| picture.row(y, x, 1).iter().copied();
    let places = (0..height).flat_map(|y| (0..width).map(move |x| place(x, y)));
    Image { width, height, pixels: places.flat_map(at).collect() }
}

/// torchvision's `affine` with one of shear (as tangents, about the corner) and translation (in pixels).
pub(super) fn shear(picture: ImageRef<'_>, [tan_x, tan_y]: [f64; 2]) -> Image {
    let degrees = [libm::atan(tan_x).to_degrees(), libm::atan(tan_y).to_degrees()];
    transform(picture, inverse_matrix((0.0, 0.0), (0.0, 0.0), degrees))
}

/// Moves a picture right and down by whole pixels.
pub(super) fn translate(picture: ImageRef<'_>, (x, y): (i64, i64)) -> Image {
    let center = (picture.width as f64 * 0.5, picture.height as f64 * 0.5);
    transform(picture, inverse_matrix(center, (x as f64, y as f64), [0.0, 0.0]))
}

/// `_get_inverse_affine_matrix` for angle 0 and scale 1.
fn inverse_matrix((cx, cy): (f64, f64), (tx, ty): (f64, f64), shear: [f64; 2]) -> Matrix {
    let [sx, sy] = shear.map(f64::to_radians);
    let a = libm::cos(-sy) / libm::cos(sy);
    let b = -libm::cos(-sy) * libm::tan(sx) / libm::cos(sy) - 0.0;
    let c = libm::sin(-sy) / libm::cos(sy);
    let d = -libm::sin(-sy) * libm::tan(sx) / libm::cos(sy) + 1.0;
    let mut matrix = [d, -b, 0.0, -c, a, 0.0];
    matrix[2] += matrix[0] * (-cx - tx) + matrix[1] * (-cy - ty);
    matrix[5] += matrix[3] * (-cx - tx) + matrix[4] * (-cy - ty);
    matrix[2] += cx;
    matrix[5] += cy;
    matrix
}

/// The picture seen through a matrix, to the nearest pixel.
fn transform(picture: ImageRef<'_>, m: Matrix) -> Image {
    if m[1] == 0.0 && m[3] == 0.0 { scale(picture, m) } else { skew(picture, m) }
}

/// Rows and columns apart, in floats that are added up: `ImagingScaleAffine`.
fn scale(picture: ImageRef<'_>, m: Matrix) -> Image {
    let (width, height) = (picture.width, picture.height);
    let places = |start: f64, step: f64, size: usize| {
        let next = move |place: &f64| Some(place + step);
        let found = std::iter::successors(Some(start + step * 0.5), next).take(size);
        let inside = move |place: f64| (0.0 <= place).then_some(place as usize);
        found.map(move |place| inside(place).filter(|&at| at < size)).collect::<Vec<_>>()
    };
    let columns = places(m[2], m[0], width);
    let mut image = Image::filled(width, height, [0; 3]);
    let (out, _) = image.pixels.as_chunks_mut::<3>();
    for (out, row) in out.chunks_exact_mut(width.max(1)).zip(places(m[5], m[4], height)) {
        let Some(row) = row else { continue };
        let (row, _) = picture.row(row, 0, width).as_chunks::<3>();
        for (out, column) in out.iter_mut().zip(&columns) {
            if let Some(column) = *column {
                *out = row[column];
            }
        }
    }
    image
}

/// In fixed point with 16 bits of fraction: `affine_fixed`. Pillow does so up to 32,768 pixels and takes floats
/// beyond; here 64-bit integers serve all.
fn skew(picture: ImageRef<'_>, m: Matrix) -> Image {
    let (width, height) = (picture.width, picture.height);
    let fix = |v: f64| (v * 65_536.0 + 0.5).floor() as i64;
    let [x_by_x, x_by_y, y_by_x, y_by_y] = [m[0], m[1], m[3], m[4]].map(fix);
    let mut x_of_row = fix(m[2] + m[0] * 0.5 + m[1] * 0.5);
    let mut y_of_row = fix(m[5] + m[3] * 0.5 + m[4] * 0.5);
    let (pixels, _) = picture.pixels.as_chunks::<3>();
    let mut image = Image::filled(width, height, [0; 3]);
    let (out, _) = image.pixels.as_chunks_mut::<3>();
    for out in out.chunks_exact_mut(width.max(1)) {
        let (mut x, mut y) = (x_of_row, y_of_row);
        for out in out {
            let (column, row) = ((x >> 16) as usize, (y >> 16) as usize);
            // A negative place is a huge one after the cast.
            if column < width && row < height {
                *out = pixels[row * width + column];
            }
            x += x_by_x;
            y += y_by_x;
        }
        x_of_row += x_by_y;
        y_of_row += y_by_y;
    }
    image
}
