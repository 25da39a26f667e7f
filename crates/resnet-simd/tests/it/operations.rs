//! Each operation, lane by lane, equals the scalar expression that its doc gives.

use resnet_simd::{Isa, Kernel, Simd};

/// Special values and common ones; their number is prime to the lanes, so that each meets each.
const VALUES: [f32; 19] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    f32::NAN,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::MIN_POSITIVE,
    1e-40,
    -1e-40,
    f32::MAX,
    f32::MIN,
    3.5,
    -2.25,
    0.1,
    16_777_216.0,
    1e-7,
    255.0,
    -1e30,
];

const CANARY: f32 = 77.0;

fn same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}

/// The vectors of one kind, and of its half width.
struct Lanes<F>(F);

trait Check {
    fn check<S: Simd>(&self, s: S);
}

impl<F: Check> Kernel for Lanes<F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        self.0.check(s);
        self.0.check(s.half());
    }
}

fn on_every_isa<F: Check + Copy>(check: F) {
    for isa in Isa::available() {
        isa.run(Lanes(check));
    }
}

fn values(start: usize, n: usize) -> Vec<f32> {
    (0..n).map(|i| VALUES[(start + i) % VALUES.len()]).collect()
}

#[derive(Clone, Copy)]
struct Arithmetic;

impl Check for Arithmetic {
    #[inline(always)]
    fn check<S: Simd>(&self, s: S) {
        let n = S::LANES;
        for shift in 0..VALUES.len() {
            for start in 0..VALUES.len() {
                let (a, b) = (values(start, n), values(start + shift, n));
                let (va, vb) = (s.load(&a), s.load(&b));
                let (x, y) = (s.splat(5.0), s.splat(f32::NAN));
                let cases = [
                    ("add", s.add(va, vb), (|a, b| a + b) as fn(f32, f32) -> f32),
                    ("sub", s.sub(va, vb), |a, b| a - b),
                    ("mul", s.mul(va, vb), |a, b| a * b),
                    ("div", s.div(va, vb), |a, b| a / b),
                    ("max", s.max(va, vb), |a, b| if a > b { a } else { b }),
                    ("min", s.min(va, vb), |a, b| if a < b { a } else { b }),
                    ("sqrt", s.sqrt(va), |a, _| a.sqrt()),
                    (
                        "select",
                        s.select_gt(va, vb, x, y),
                        |a, b| {
                            if a > b { 5.0 } else { f32::NAN }
                        },
                    ),
                    ("select", s.select_gt(va, vb, va, vb), |a, b| if a > b { a } else { b }),
                ];
                for (name, v, scalar) in cases {
                    let mut got = vec![0.0; n];
                    s.store(v, &mut got);
                    for i in 0..n {
                        let want = scalar(a[i], b[i]);
                        assert!(same(got[i], want), "{name}({}, {}) = {}", a[i], b[i], got[i]);
                    }
                }
            }
        }
    }
}

#[test]
fn arithmetic_equals_scalar_expressions_on_special_values() {
    on_every_isa(Arithmetic);
}

#[derive(Clone, Copy)]
struct MultiplyAdd;

impl Check for MultiplyAdd {
    #[inline(always)]
    fn check<S: Simd>(&self, s: S) {
        // Products and sums that are exact, so that one rounding and two agree.
        let a: Vec<f32> = (0..S::LANES).map(|i| i as f32 - 3.0).collect();
        let b: Vec<f32> = (0..S::LANES).map(|i| 0.5 * i as f32 + 1.0).collect();
        let c: Vec<f32> = (0..S::LANES).map(|i| 100.0 - i as f32).collect();
        let mut got = vec![0.0; S::LANES];
        s.store(s.mul_add(s.load(&a), s.load(&b), s.load(&c)), &mut got);
        for i in 0..S::LANES {
            assert_eq!(got[i], a[i] * b[i] + c[i]);
        }
        let nan = s.mul_add(s.splat(0.0), s.splat(f32::INFINITY), s.splat(1.0));
        assert!(s.sum(nan).is_nan());
    }
}

#[test]
fn multiply_add_equals_scalar_expression() {
    on_every_isa(MultiplyAdd);
}

#[derive(Clone, Copy)]
struct Memory;

impl Check for Memory {
    #[inline(always)]
    fn check<S: Simd>(&self, s: S) {
        let n = S::LANES;
        for start in 0..4 {
            for len in 0..=n + 1 {
                let x = values(start, start + len);
                let mut y = vec![CANARY; start + len + n];
                s.store_partial(s.load_partial(&x[start..]), &mut y[start..start + n]);
                for i in 0..n {
                    let want = if i < len { x[start + i] } else { 0.0 };
                    assert!(same(y[start + i], want), "load {len} of {n}, lane {i}");
                }
                let mut y = vec![CANARY; start + len + n];
                s.store_partial(s.splat(-0.0), &mut y[start..start + len]);
                for (i, &y) in y.iter().enumerate() {
                    let inside = start <= i && i < start + len.min(n);
                    assert!(same(y, if inside { -0.0 } else { CANARY }), "store {len}, at {i}");
                }
            }
            let x = values(start, start + n);
            let mut y = vec![CANARY; start + n + 1];
            // SAFETY: both slices hold `start + n` floats or more.
            unsafe {
                s.prefetch(x.as_ptr());
                s.store_ptr(s.load_ptr(x.as_ptr().add(start)), y.as_mut_ptr().add(start));
            }
            assert!((0..n).all(|i| same(y[start + i], x[start + i])));
            assert_eq!(y[start + n], CANARY);
        }
        let mut y = resnet_simd::AlignedVec::<f32>::zeroed(2 * n);
        // SAFETY: the buffer is aligned to 64 bytes, the widest vector, and holds `n` floats.
        unsafe { s.stream_ptr(s.splat(2.0), y.as_mut_ptr()) };
        assert!(y[..n].iter().all(|&y| y == 2.0) && y[n] == 0.0);
    }
}

#[test]
fn loads_and_stores_touch_their_lanes_only() {
    on_every_isa(Memory);
}

#[derive(Clone, Copy)]
struct Pairs;

impl Check for Pairs {
    #[inline(always)]
    fn check<S: Simd>(&self, s: S) {
        let (n, half) = (S::LANES, S::LANES / 2);
        for start in 0..VALUES.len() {
            let (p, q) = (values(start, half), values(start + 7, half));
            let mut got = [vec![0.0; n], vec![0.0; n], vec![CANARY; half + 1]];
            let mut apart = [vec![CANARY; half + 1], vec![CANARY; half + 1]];
            // SAFETY: `p`, `q`, the last of `got` and both of `apart` hold half as many floats as
            // there are lanes.
            unsafe {
                s.store(s.splat_pair(p.as_ptr()), &mut got[0]);
                let in_turn = s.load_pairs(p.as_ptr(), q.as_ptr());
                s.store(in_turn, &mut got[1]);
                s.store_pair_sums(in_turn, got[2].as_mut_ptr());
                let [even, odd] = apart.each_mut().map(|half| half.as_mut_ptr());
                s.store_pairs(in_turn, even, odd);
            }
            for i in 0..n {
                assert!(same(got[0][i], p[i % 2]), "splat, lane {i}");
                assert!(same(got[1][i], [&p, &q][i % 2][i / 2]), "load, lane {i}");
            }
            assert!((0..half).all(|i| same(got[2][i], p[i] + q[i])), "sums: {:?}", got[2]);
            assert_eq!(got[2][half], CANARY);
            for (stored, loaded) in apart.iter().zip([&p, &q]) {
                assert!((0..half).all(|i| same(stored[i], loaded[i])), "apart: {stored:?}");
                assert_eq!(stored[half], CANARY);
            }
        }
    }
}

#[test]
fn pairs_are_splat_loaded_stored_and_summed_up() {
    on_every_isa(Pairs);
}

#[derive(Clone, Copy)]
struct Sums;

impl Check for Sums {
    #[inline(always)]
    fn check<S: Simd>(&self, s: S) {
        let mut a: Vec<f32> = (0..S::LANES).map(|i| (0.37 * i as f32).sin()).collect();
        let got = s.sum(s.load(&a));
        while a.len() > 1 {
            let high = a.split_off(a.len() / 2);
            a.iter_mut().zip(high).for_each(|(a, h)| *a += h);
        }
        assert_eq!(got.to_bits(), a[0].to_bits());
        let bytes: Vec<u8> = (0..S::LANES).map(|i| 255 - 9 * i as u8).collect();
        let mut floats = vec![0.0; S::LANES];
        s.store(s.load_u8(&bytes), &mut floats);
        assert!(floats.iter().zip(&bytes).all(|(&f, &b)| f == f32::from(b)));
        let mut back = vec![7; S::LANES + 1];
        s.store_u8(s.load(&floats), &mut back);
        assert_eq!(back, [&bytes[..], &[7]].concat());
    }
}

#[test]
fn sums_add_halves_and_bytes_become_floats_and_come_back() {
    on_every_isa(Sums);
}
