//! The gradient by a bias: `db[c]` is the sum of `dy[..., c]` over everything else.

use resnet_simd::{Element, Isa, Simd};

use super::lane::At;
use super::sums::{Rows, Terms, combine, sum_rows};
use crate::threads::ThreadPool;

struct Values<'a, E>(&'a [E]);

impl<E: Element> Terms<1> for Values<'_, E> {
    fn scalar(&self, i: usize, _j: usize) -> [f32; 1] {
        [self.0[i].to_f32()]
    }

    #[inline(always)]
    fn lanes<S: Simd>(&self, s: S, at: At) -> [S::F32; 1] {
        [at.load(s, self.0)]
    }
}

/// `db[c] = sum over rows of dy[row, c]`; `partials` is scratch, `[chunks][channels]`.
///
/// # Panics
/// If a slice does not have the length that `rows` says.
pub fn bias_grad<E: Element>(
    isa: Isa,
    pool: &ThreadPool,
    rows: Rows,
    dy: &[E],
    partials: &mut [f32],
    db: &mut [f32],
) {
    assert_eq!((dy.len(), db.len()), (rows.len(), rows.channels));
    sum_rows(isa, pool, rows, partials, Values(dy));
    combine(rows.channels, partials, (1, [0]), |c, [sum]| db[c] = sum as f32);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::{
        assert_same, expected_sums, for_machines, guarded, odd_rows, random,
    };

    #[test]
    fn sums_equal_those_of_the_twin() {
        for rows in odd_rows() {
            let dy = random(1, rows.len());
            let partials = expected_sums(rows, |i, _| [dy[i]]);
            let sum = |c: usize| -> f64 {
                partials.iter().skip(c).step_by(rows.channels).map(|&x| f64::from(x)).sum()
            };
            let expected: Vec<f32> = (0..rows.channels).map(|c| sum(c) as f32).collect();
            for_machines(|isa, pool| {
                let mut scratch = vec![f32::NAN; rows.partials_len(1)];
                let found = guarded(&vec![0.0; rows.channels], 3.0, |db| {
                    bias_grad(isa, pool, rows, &dy, &mut scratch, db);
                });
                assert_same(&found, &expected);
            });
        }
    }
}
