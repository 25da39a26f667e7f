//! Pixels to real numbers: `y[..., c] = x[..., c] * scale[c] + shift[c]`, both rounded.

use resnet_simd::{Element, Isa, Kernel, Simd};

use super::map::PART;
use crate::threads::ThreadPool;

/// More channels than any picture has; above, the scalar twin does the work.
const MAX_CHANNELS: usize = 8;
/// No vector is wider.
const MAX_LANES: usize = 16;

/// The factor and offset that make `(x / 255 - mean) / std` of a pixel `x`.
pub fn pixel_affine(mean: f64, std: f64) -> (f32, f32) {
    ((1.0 / (255.0 * std)) as f32, (-mean / std) as f32)
}

/// `y[..., c] = x[..., c] * scale[c] + shift[c]` for pixels `x` of `scale.len()` channels.
///
/// # Panics
/// If the lengths do not fit.
pub fn normalise_pixels<E: Element>(
    isa: Isa,
    pool: &ThreadPool,
    x: &[u8],
    (scale, shift): (&[f32], &[f32]),
    y: &mut [E],
) {
    let c = scale.len();
    assert_eq!((x.len(), shift.len()), (y.len(), c));
    assert!(y.len().is_multiple_of(c.max(1)), "whole pixels of {c} channels");
    let part_len = PART / c.max(1) * c;
    pool.run_parts(y, part_len.max(c), |part, y| {
        let x = &x[part * part_len.max(c)..][..y.len()];
        if isa == Isa::Portable || MAX_CHANNELS < c {
            normalise_scalar(x, (scale, shift), y);
        } else {
            isa.run(Normalise { x, scale, shift, y });
        }
    });
}

/// The twin, and the portable version.
fn normalise_scalar<E: Element>(x: &[u8], (scale, shift): (&[f32], &[f32]), y: &mut [E]) {
    let c = scale.len();
    for (i, (y, &x)) in y.iter_mut().zip(x).enumerate() {
        *y = E::from_f32(f32::from(x) * scale[i % c] + shift[i % c]);
    }
}

/// Channels repeat every `c` vectors: the factors of that many are laid out once.
struct Normalise<'a, E> {
    x: &'a [u8],
    scale: &'a [f32],
    shift: &'a [f32],
    y: &'a mut [E],
}

impl<E: Element> Kernel for Normalise<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let c = self.scale.len();
        let period = c * S::LANES;
        let mut scale = [0.0; MAX_CHANNELS * MAX_LANES];
        let mut shift = [0.0; MAX_CHANNELS * MAX_LANES];
        for i in 0..period {
            (scale[i], shift[i]) = (self.scale[i % c], self.shift[i % c]);
        }
        let mut xs = self.x.chunks_exact(period);
        let mut ys = self.y.chunks_exact_mut(period);
        for (x, y) in xs.by_ref().zip(ys.by_ref()) {
            for i in (0..period).step_by(S::LANES) {
                let product = s.mul(s.load_u8(&x[i..]), s.load(&scale[i..]));
                E::store(s, s.add(product, s.load(&shift[i..])), &mut y[i..]);
            }
        }
        normalise_scalar(xs.remainder(), (self.scale, self.shift), ys.into_remainder());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::{assert_same, for_machines, guarded};

    #[test]
    fn every_machine_gives_the_bits_of_the_twin() {
        for c in 1..=10 {
            let (scale, shift): (Vec<f32>, Vec<f32>) =
                (0..c).map(|c| pixel_affine(0.4 + 0.01 * c as f64, 0.2)).unzip();
            for pixels in (0..60).chain([20_000]) {
                let x: Vec<u8> = (0..pixels * c).map(|i| (i * 37 % 256) as u8).collect();
                let mut expected = vec![0.0; x.len()];
                normalise_scalar(&x, (&scale, &shift), &mut expected);
                for_machines(|isa, pool| {
                    let found = guarded(&vec![0.0; x.len()], 3.0, |y| {
                        normalise_pixels(isa, pool, &x, (&scale, &shift), y);
                    });
                    assert_same(&found, &expected);
                });
            }
        }
    }

    #[test]
    fn pixels_come_out_as_the_formula_says() {
        let (scale, shift) = pixel_affine(0.485, 0.229);
        for x in 0..=255_u8 {
            let mut y = [0.0];
            normalise_scalar(&[x], (&[scale], &[shift]), &mut y);
            let expected = (f64::from(x) / 255.0 - 0.485) / 0.229;
            // Two roundings of numbers up to 4.5.
            assert!((f64::from(y[0]) - expected).abs() < 1e-6);
        }
    }
}
