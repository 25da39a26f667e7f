//! Weights, inputs and signs from an integer hash: the same bits here and in `xtask/oracle`.
//!
//! Numbers that PyTorch computed are stored under `fixtures/`; what it computed them *from* is made
//! again on both sides, as a function of a name and an index. The name's FNV-1a hash (64 bits)
//! starts a splitmix64 sequence (Steele et al. 2014, "Fast splittable pseudorandom number
//! generators", section 5); element `i` in row-major order takes its `i + 1`-th output `z`, and
//! `u = (z >> 40) / 2^24` lies in `[0, 1)` and is exact in f32. Seed 0 hashes the name as it is, a
//! seed `s > 0` hashes `name#s`.
//!
//! Large tensors are stored as a [`Summary`].

use serde::Deserialize;

const FNV_OFFSET: u64 = 0xCBF2_9CE4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01B3;
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// FNV-1a of the name's bytes, 64 bits.
fn fnv1a(name: &str) -> u64 {
    name.bytes().fold(FNV_OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME))
}

/// The splitmix64 output of element `i` of the name that hashes to `start`.
fn hash_at(start: u64, i: usize) -> u64 {
    let mut z = start.wrapping_add((i as u64 + 1).wrapping_mul(GOLDEN));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn unit(z: u64) -> f32 {
    // 24 bits and a power of two: both steps are exact.
    (z >> 40) as f32 / 16_777_216.0
}

fn seeded(name: &str, seed: u64) -> u64 {
    if seed == 0 { fnv1a(name) } else { fnv1a(&format!("{name}#{seed}")) }
}

/// The first `len` values `u` of a name, in `[0, 1)`.
pub fn uniform(name: &str, len: usize) -> Vec<f32> {
    let start = fnv1a(name);
    (0..len).map(|i| unit(hash_at(start, i))).collect()
}

/// The made values of a parameter or running statistic; its name and shape tell the kind.
///
/// With `c = 2u - 1`, each one multiplication and then one addition in f32:
/// `fc.weight`: `c * sqrt(1/in)`; other weights of four axes: `c * sqrt(6/(in*kh*kw))`;
/// `running_var`: `0.5 + u`; `running_mean` and every bias: `0.2 * c`; gammas: `0.25 + 0.5 * u`.
/// The gains keep activations and gradients near one through a hundred layers.
pub fn parameter(name: &str, shape: &[usize], seed: u64) -> Vec<f32> {
    let bound = |gain: f64| {
        let fan_in: usize = shape[1..].iter().product();
        (gain / fan_in as f64).sqrt() as f32
    };
    let formula = if name == "fc.weight" {
        Formula::Centred(bound(1.0))
    } else if shape.len() == 4 {
        Formula::Centred(bound(6.0))
    } else if name.ends_with(".running_var") {
        Formula::Positive(0.5, 1.0)
    } else if name.ends_with(".running_mean") || name.ends_with(".bias") {
        Formula::Centred(0.2)
    } else {
        Formula::Positive(0.25, 0.5)
    };
    let start = seeded(name, seed);
    let len = shape.iter().product();
    (0..len).map(|i| formula.value(unit(hash_at(start, i)))).collect()
}

/// How a parameter's value comes from `u`.
#[derive(Clone, Copy)]
enum Formula {
    /// `(2u - 1) * bound`.
    Centred(f32),
    /// `offset + factor * u`.
    Positive(f32, f32),
}

impl Formula {
    fn value(self, u: f32) -> f32 {
        match self {
            Formula::Centred(bound) => (2.0 * u - 1.0) * bound,
            Formula::Positive(offset, factor) => offset + factor * u,
        }
    }
}

/// A made batch of pixels, `floor(256 * u)` of the name `input`; NHWC order.
pub fn pixels(len: usize, seed: u64) -> Vec<u8> {
    let start = seeded("input", seed);
    (0..len).map(|i| (unit(hash_at(start, i)) * 256.0) as u8).collect()
}

/// Made class numbers, `floor(classes * u)` of the name `labels`.
pub fn labels(len: usize, classes: usize, seed: u64) -> Vec<u32> {
    let start = seeded("labels", seed);
    (0..len).map(|i| (f64::from(unit(hash_at(start, i))) * classes as f64) as u32).collect()
}

/// What a fixture stores of a tensor: all of a small one, else norm, random projections, samples.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Summary {
    /// Every value.
    Whole {
        /// In row-major order.
        values: Vec<f64>,
    },
    /// What is left of a large tensor.
    Sketch {
        /// Euclidean norm.
        norm: f64,
        /// Dot products with the sign vectors of the tensor's name (see [`project`]).
        projections: Vec<f64>,
        /// Some elements (see [`sample_indices`]).
        #[serde(default)]
        samples: Vec<f64>,
    },
}

impl Summary {
    /// The tensor's Euclidean norm.
    pub fn norm(&self) -> f64 {
        match self {
            Summary::Whole { values } => norm(values.iter().copied()),
            Summary::Sketch { norm, .. } => *norm,
        }
    }

    /// Euclidean distance between the summarised tensor and `values`: exact for a whole one, else
    /// estimated. With signs of mean zero and variance one, the mean of the squared differences of
    /// projections is the squared distance; with 16 of them one standard deviation is 18 %.
    ///
    /// # Panics
    /// If a whole tensor has another length.
    pub fn distance(&self, name: &str, values: &[f64]) -> f64 {
        match self {
            Summary::Whole { values: stored } => {
                assert_eq!(stored.len(), values.len(), "{name}: another length");
                norm(stored.iter().zip(values).map(|(a, b)| a - b))
            }
            Summary::Sketch { projections, .. } => {
                let ours = project(name, values, projections.len());
                let apart = norm(projections.iter().zip(ours).map(|(a, b)| a - b));
                apart / (projections.len() as f64).sqrt()
            }
        }
    }

    /// [`Summary::distance`] as a share of the stored norm.
    ///
    /// # Panics
    /// As [`Summary::distance`].
    pub fn relative_distance(&self, name: &str, values: &[f64]) -> f64 {
        self.distance(name, values) / self.norm()
    }

    /// Pairs of (stored, ours): of every element of a whole tensor, of the samples of a large one.
    pub fn pairs(&self, name: &str, values: &[f64]) -> Vec<(f64, f64)> {
        match self {
            Summary::Whole { values: stored } => {
                stored.iter().copied().zip(values.iter().copied()).collect()
            }
            Summary::Sketch { samples, .. } => {
                let at = sample_indices(name, values.len(), samples.len());
                samples.iter().zip(at).map(|(&stored, i)| (stored, values[i])).collect()
            }
        }
    }
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|v| v * v).sum::<f64>().sqrt()
}

/// Dot products of a tensor with the first `count <= 64` sign vectors of its name: sign `k` of
/// element `i` is -1 where bit `k` of the hash of `sign/NAME` at `i` is set, else +1.
pub fn project(name: &str, values: &[f64], count: usize) -> Vec<f64> {
    let start = fnv1a(&format!("sign/{name}"));
    let mut sums = vec![0.0; count];
    for (i, &value) in values.iter().enumerate() {
        let z = hash_at(start, i);
        for (k, sum) in sums.iter_mut().enumerate() {
            // The sign bit of an f64 is bit 63: moving bit `k` there negates without a branch.
            *sum += f64::from_bits(value.to_bits() ^ ((z >> k & 1) << 63));
        }
    }
    sums
}

/// Which elements of a tensor of `len` are stored as samples: `floor(len * u)` of `sample/NAME`.
pub fn sample_indices(name: &str, len: usize, count: usize) -> Vec<usize> {
    let u = uniform(&format!("sample/{name}"), count);
    u.into_iter().map(|u| (f64::from(u) * len as f64) as usize).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_uniform(name: &str, i: usize, expected: f64) {
        assert_eq!(f64::from(uniform(name, i + 1)[i]), expected);
    }

    // Spot checks of a reference that others made by the same rule.
    #[test]
    fn uniform_numbers_are_those_of_the_layout_reference() {
        check_uniform("conv1.weight", 0, 0.5450749397277832);
        check_uniform("conv1.weight", 9407, 0.19973593950271606);
        check_uniform("bn1.weight", 5, 0.13288503885269165);
        check_uniform("bn1.running_var", 63, 0.7562807202339172);
        check_uniform("fc.weight", 12345, 0.35982513427734375);
        check_uniform("input", 0, 0.09781831502914429);
        check_uniform("input", 150527, 0.3994993567466736);
    }

    #[test]
    fn a_seed_changes_every_value_and_zero_is_the_plain_name() {
        let plain = parameter("bn1.running_var", &[64], 0);
        assert_eq!(plain[63], 0.5 + uniform("bn1.running_var", 64)[63]);
        let other = parameter("bn1.running_var", &[64], 3);
        assert_eq!(other[63], 0.5 + uniform("bn1.running_var#3", 64)[63]);
        assert!(plain.iter().zip(&other).all(|(a, b)| a != b));
    }

    #[test]
    fn labels_and_pixels_fill_their_range() {
        let labels = labels(1000, 7, 0);
        assert_eq!((labels.iter().min(), labels.iter().max()), (Some(&0), Some(&6)));
        let pixels = pixels(10_000, 1);
        assert_eq!((pixels.iter().min(), pixels.iter().max()), (Some(&0), Some(&255)));
    }

    #[test]
    fn the_distance_of_a_sketch_is_near_the_true_one() {
        let a: Vec<f64> = uniform("a", 5000).into_iter().map(f64::from).collect();
        let b: Vec<f64> = uniform("b", 5000).into_iter().map(f64::from).collect();
        let exact = norm(a.iter().zip(&b).map(|(a, b)| a - b));
        let sketch = Summary::Sketch {
            norm: norm(a.iter().copied()),
            projections: project("t", &a, 16),
            samples: Vec::new(),
        };
        let ratio = sketch.distance("t", &b) / exact;
        assert!((0.6..1.4).contains(&ratio), "{ratio}");
        assert!(sketch.distance("t", &a) == 0.0);
    }
}
