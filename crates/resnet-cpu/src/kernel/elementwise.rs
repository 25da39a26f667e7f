//! ReLU, sigmoid, sums, products, and their gradients, element by element.

use resnet_simd::{Element, Isa, Simd};

use super::lane::{At, Source};
use super::map::{Map, PART, map_flat};
use crate::threads::ThreadPool;

struct Relu<'a, E>(Source<'a, E>);

impl<E: Element> Map for Relu<'_, E> {
    fn scalar(&self, old: f32, i: usize, _j: usize) -> f32 {
        let x = self.0.scalar(old, i);
        if x < 0.0 { 0.0 } else { x }
    }

    #[inline(always)]
    fn lanes<S: Simd>(&self, s: S, old: S::F32, at: At) -> S::F32 {
        // In this order a NaN in `x` comes through.
        s.max(s.splat(0.0), self.0.lanes(s, old, at))
    }
}

/// `y = max(x, 0)`. NaN stays NaN; -0.0 stays -0.0.
///
/// # Panics
/// If the lengths differ.
pub fn relu<E: Element>(isa: Isa, pool: &ThreadPool, x: Source<'_, E>, y: &mut [E]) {
    x.assert_len(y.len());
    map_flat(isa, pool, y, Relu(x));
}

struct ReluGrad<'a, E> {
    dy: Source<'a, E>,
    y: &'a [E],
}

impl<E: Element> Map for ReluGrad<'_, E> {
    fn scalar(&self, old: f32, i: usize, _j: usize) -> f32 {
        if self.y[i].to_f32() > 0.0 { self.dy.scalar(old, i) } else { 0.0 }
    }

    #[inline(always)]
    fn lanes<S: Simd>(&self, s: S, old: S::F32, at: At) -> S::F32 {
        let zero = s.splat(0.0);
        s.select_gt(at.load(s, self.y), zero, self.dy.lanes(s, old, at), zero)
    }
}

/// `dx = dy` where `y > 0`, else 0, `y` being the ReLU's output. NaN in `y` gives 0.
///
/// # Panics
/// If the lengths differ.
pub fn relu_grad<E: Element>(
    isa: Isa,
    pool: &ThreadPool,
    dy: Source<'_, E>,
    y: &[E],
    dx: &mut [E],
) {
    dy.assert_len(dx.len());
    assert_eq!(y.len(), dx.len());
    map_flat(isa, pool, dx, ReluGrad { dy, y });
}

/// `y = 1 / (1 + exp(-x))`, in f64 on `libm`, so that it is the same everywhere.
///
/// There is no vector version: networks gate channels with it, a few thousand numbers a step.
///
/// # Panics
/// If the lengths differ.
pub fn sigmoid(pool: &ThreadPool, x: Source<'_>, y: &mut [f32]) {
    x.assert_len(y.len());
    // An exponential costs a hundred times what other kernels do for an element.
    let part_len = PART / 64;
    pool.run_parts(y, part_len, |part, y| {
        for (i, y) in y.iter_mut().enumerate() {
            let x = f64::from(x.scalar(*y, part * part_len + i));
            *y = (1.0 / (1.0 + libm::exp(-x))) as f32;
        }
    });
}

struct SigmoidGrad<'a> {
    dy: Source<'a>,
    y: &'a [f32],
}

impl Map for SigmoidGrad<'_> {
    fn scalar(&self, old: f32, i: usize, _j: usize) -> f32 {
        let y = self.y[i];
        self.dy.scalar(old, i) * (y * (1.0 - y))
    }

    #[inline(always)]
    fn lanes<S: Simd>(&self, s: S, old: S::F32, at: At) -> S::F32 {
        let y = at.load(s, self.y);
        let slope = s.mul(y, s.sub(s.splat(1.0), y));
        s.mul(self.dy.lanes(s, old, at), slope)
    }
}

/// `dx = dy * y * (1 - y)`, `y` being the sigmoid's output.
///
/// # Panics
/// If the lengths differ.
pub fn sigmoid_grad(isa: Isa, pool: &ThreadPool, dy: Source<'_>, y: &[f32], dx: &mut [f32]) {
    dy.assert_len(dx.len());
    assert_eq!(y.len(), dx.len());
    map_flat(isa, pool, dx, SigmoidGrad { dy, y });
}

struct Add<'a, E> {
    a: Source<'a, E>,
    rest: &'a [&'a [E]],
}

impl<E: Element> Map for Add<'_, E> {
    fn scalar(&self, old: f32, i: usize, _j: usize) -> f32 {
        self.rest.iter().fold(self.a.scalar(old, i), |sum, b| sum + b[i].to_f32())
    }

    #[inline(always)]
    fn lanes<S: Simd>(&self, s: S, old: S::F32, at: At) -> S::F32 {
        let mut sum = self.a.lanes(s, old, at);
        for b in self.rest {
            sum = s.add(sum, at.load(s, b));
        }
        sum
    }
}

/// `y = a + rest[0] + rest[1] + …`, added in this order.
///
/// # Panics
/// If the lengths differ.
pub fn add<E: Element>(isa: Isa, pool: &ThreadPool, a: Source<'_, E>, rest: &[&[E]], y: &mut [E]) {
    a.assert_len(y.len());
    rest.iter().for_each(|b| assert_eq!(b.len(), y.len()));
    map_flat(isa, pool, y, Add { a, rest });
}

struct Mul<'a> {
    a: Source<'a>,
    b: &'a [f32],
}

impl Map for Mul<'_> {
    fn scalar(&self, old: f32, i: usize, _j: usize) -> f32 {
        self.a.scalar(old, i) * self.b[i]
    }

    #[inline(always)]
    fn lanes<S: Simd>(&self, s: S, old: S::F32, at: At) -> S::F32 {
        s.mul(self.a.lanes(s, old, at), at.load(s, self.b))
    }
}

/// `y = a * b`: dropout's gradient from its mask.
///
/// # Panics
/// If the lengths differ.
pub fn mul(isa: Isa, pool: &ThreadPool, a: Source<'_>, b: &[f32], y: &mut [f32]) {
    a.assert_len(y.len());
    assert_eq!(b.len(), y.len());
    map_flat(isa, pool, y, Mul { a, b });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::{check_map, special};

    /// A kernel and its twin agree on all lengths of tails and some of several tasks, from another
    /// tensor and in place.
    fn check(
        kernel: impl for<'a> Fn(Source<'a>, &'a [f32]) -> Box<dyn Fn(f32, usize) -> f32 + 'a>,
        run: impl Fn(Isa, &ThreadPool, Source<'_>, &[f32], &mut [f32]),
    ) {
        for len in (0..=49).chain([PART, PART + 5, 3 * PART - 1]) {
            let (x, other) = (special(1, len), special(2, len));
            for (source, start) in [(Source::From(&x), &other), (Source::InPlace, &x)] {
                let twin = kernel(source, &other);
                check_map(
                    1,
                    start,
                    |old, i, _| twin(old, i),
                    |isa, pool, y| run(isa, pool, source, &other, y),
                );
            }
        }
    }

    macro_rules! equals_its_twin {
        ($($test:ident: |$x:ident, $other:ident| $map:expr, $run:expr;)*) => {$(
            #[test]
            fn $test() {
                check(
                    |$x, $other| {
                        let map = $map;
                        Box::new(move |old, i| map.scalar(old, i, 0))
                    },
                    $run,
                );
            }
        )*};
    }

    equals_its_twin! {
        relu_equals_its_twin: |x, _other| Relu(x), |isa, pool, x, _, y| relu(isa, pool, x, y);
        relu_grad_equals_its_twin: |x, other| ReluGrad { dy: x, y: other }, relu_grad;
        sigmoid_grad_equals_its_twin: |x, other| SigmoidGrad { dy: x, y: other }, sigmoid_grad;
        mul_equals_its_twin: |x, other| Mul { a: x, b: other }, mul;
    }

    #[test]
    fn add_equals_its_twin_for_any_number_of_terms() {
        for terms in 0..4 {
            let (x, other) = (special(1, 53), special(2, 53));
            let rest = vec![&other[..]; terms];
            let twin = Add { a: Source::From(&x), rest: &rest };
            check_map(
                1,
                &other,
                |old, i, j| twin.scalar(old, i, j),
                |isa, pool, y| add(isa, pool, Source::From(&x), &rest, y),
            );
        }
    }

    #[test]
    fn sigmoid_has_its_limits_and_middle() {
        let pool = ThreadPool::new(2);
        let mut y = [0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1.0];
        sigmoid(&pool, Source::InPlace, &mut y);
        assert_eq!(y[..3], [0.5, 1.0, 0.0]);
        assert!(y[3].is_nan() && (y[4] - 0.731_058_6).abs() < 1e-7);
    }
}
