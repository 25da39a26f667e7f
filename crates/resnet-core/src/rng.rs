//! Counter-based random numbers: Philox4x32-10.
//!
//! Every random number is a function of (seed, purpose, two counters, draw), so there is no state to
//! save, and nothing depends on threads, workers or ranks.
//! Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", section 3.3 and table 2.

/// What a stream of random numbers is for. The numbers are part of the format: append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Purpose {
    /// Initial weights. Counters: parameter index, 0.
    Init = 1,
    /// Order of the samples in an epoch. Counters: epoch, 0.
    Shuffle = 2,
    /// Augmentation of one sample. Counters: epoch, sample.
    Augment = 3,
    /// Generated training pictures. Counters: sample, 0.
    GeneratedTrain = 4,
    /// Generated validation pictures. Counters: sample, 0.
    GeneratedVal = 5,
    /// Dropout masks. Counters: step, node.
    Dropout = 6,
    /// Stochastic depth decisions. Counters: step, node.
    StochasticDepth = 7,
    /// The sample that takes the place of a broken one. Counters: epoch, sample.
    Replacement = 8,
    /// Random projections and inputs of tests and checks. Counters: free.
    Test = 9,
    /// The fixed look of each generated class. Counters: class, 0.
    GeneratedClass = 10,
    /// How a training batch is mixed. Counters: epoch, step within the epoch.
    Mix = 11,
}

const MUL_0: u32 = 0xD251_1F53;
const MUL_1: u32 = 0xCD9E_8D57;
const WEYL_0: u32 = 0x9E37_79B9;
const WEYL_1: u32 = 0xBB67_AE85;

/// One block of Philox4x32-10: four words from a 128-bit counter and a 64-bit key.
pub fn philox4x32(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let [mut c0, mut c1, mut c2, mut c3] = counter;
    let [mut k0, mut k1] = key;
    for _ in 0..10 {
        let p0 = u64::from(MUL_0) * u64::from(c0);
        let p1 = u64::from(MUL_1) * u64::from(c2);
        (c0, c1, c2, c3) =
            ((p1 >> 32) as u32 ^ c1 ^ k0, p1 as u32, (p0 >> 32) as u32 ^ c3 ^ k1, p0 as u32);
        k0 = k0.wrapping_add(WEYL_0);
        k1 = k1.wrapping_add(WEYL_1);
    }
    [c0, c1, c2, c3]
}

/// The Philox key of all streams for one purpose under a seed.
pub fn stream_key(seed: u64, purpose: Purpose) -> [u32; 2] {
    let seed_key = [seed as u32, (seed >> 32) as u32];
    let [k0, k1, ..] = philox4x32([purpose as u32, 0, 0, 0], seed_key);
    [k0, k1]
}

/// A stream of random numbers for one (seed, purpose, a, b).
///
/// The key is the first half of Philox applied to the purpose under the seed; the counter is
/// `[draw, a, b low, b high]`.
#[derive(Clone, Debug)]
pub struct Stream {
    key: [u32; 2],
    a: u32,
    b: u64,
    draw: u32,
    block: [u32; 4],
    used: usize,
}

impl Stream {
    /// The stream for one purpose and its two counters: an epoch or step in `a`, a sample's 64-bit
    /// identity (or any index) in `b`.
    pub fn new(seed: u64, purpose: Purpose, a: u32, b: u64) -> Stream {
        Stream { key: stream_key(seed, purpose), a, b, draw: 0, block: [0; 4], used: 4 }
    }

    /// The next 32 random bits.
    pub fn next_u32(&mut self) -> u32 {
        if self.used == 4 {
            let counter = [self.draw, self.a, self.b as u32, (self.b >> 32) as u32];
            self.block = philox4x32(counter, self.key);
            self.draw = self.draw.wrapping_add(1);
            self.used = 0;
        }
        self.used += 1;
        self.block[self.used - 1]
    }

    /// The next 64 random bits, low word first.
    pub fn next_u64(&mut self) -> u64 {
        let low = u64::from(self.next_u32());
        low | u64::from(self.next_u32()) << 32
    }

    /// Uniform in [0, 1) with 24 bits.
    pub fn uniform(&mut self) -> f32 {
        (self.next_u32() >> 8) as f32 * (1.0 / (1 << 24) as f32)
    }

    /// Uniform in [0, 1) with 53 bits.
    pub fn uniform_f64(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform in `0..n` without bias (Lemire 2019, arXiv:1805.10941, algorithm 5).
    pub fn below(&mut self, n: u32) -> u32 {
        assert!(n > 0, "below(0)");
        loop {
            let product = u64::from(self.next_u32()) * u64::from(n);
            let low = product as u32;
            if low >= n || low >= n.wrapping_neg() % n {
                return (product >> 32) as u32;
            }
        }
    }

    /// Standard normal by Box and Muller 1958, in f64 on `libm`, so that it is the same everywhere.
    pub fn normal(&mut self) -> f64 {
        // 1 - u lies in (0, 1], so the logarithm is finite.
        let radius = libm::sqrt(-2.0 * libm::log(1.0 - self.uniform_f64()));
        radius * libm::cos(2.0 * std::f64::consts::PI * self.uniform_f64())
    }

    /// Beta(alpha, alpha), in f64 on `libm`: `x / (x + y)` of two gamma variates, by their logarithms,
    /// which do not underflow where a small `alpha` makes both tiny.
    pub fn beta(&mut self, alpha: f64) -> f64 {
        assert!(alpha > 0.0, "beta({alpha})");
        let (x, y) = (self.log_gamma_variate(alpha), self.log_gamma_variate(alpha));
        1.0 / (1.0 + libm::exp(y - x))
    }

    /// The logarithm of a gamma variate of this shape and scale 1: Marsaglia and Tsang 2000, "A simple method
    /// for generating gamma variables", section 2, and the note of section 6 for shapes below 1.
    fn log_gamma_variate(&mut self, shape: f64) -> f64 {
        // 1 - u lies in (0, 1], so the logarithm is finite.
        let boost = if shape < 1.0 { libm::log(1.0 - self.uniform_f64()) / shape } else { 0.0 };
        let d = if shape < 1.0 { shape + 1.0 } else { shape } - 1.0 / 3.0;
        let c = 1.0 / libm::sqrt(9.0 * d);
        loop {
            let x = self.normal();
            let cube_root = 1.0 + c * x;
            let v = cube_root * cube_root * cube_root;
            let log_u = libm::log(1.0 - self.uniform_f64());
            if 0.0 < v && log_u < 0.5 * x * x + d - d * v + d * libm::log(v) {
                return boost + libm::log(d * v);
            }
        }
    }

    /// Shuffles `items` in place (Fisher and Yates, from the end).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            let bound = u32::try_from(i + 1).expect("fewer than 2^32 items");
            items.swap(i, self.below(bound) as usize);
        }
    }
}

/// The word below which an element is dropped with probability `p`.
///
/// Dropout and stochastic depth take one word an element (a sample): element `i` takes draw `i` of
/// `Stream::new(seed, purpose, step, stream)`, that is word `i % 4` of
/// `philox4x32([i / 4, step, stream, 0], stream_key(seed, purpose))`. It is kept where the word is at least this.
pub fn drop_threshold(p: f64) -> u32 {
    // The cast saturates, so a p that rounds up to one keeps one element in 2^32.
    (p * 4_294_967_296.0).round() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn philox_meets_the_published_vectors() {
        // Random123 1.14.0, kat_vectors, philox4x32 10.
        assert_eq!(
            philox4x32([0; 4], [0; 2]),
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
        );
        assert_eq!(
            philox4x32([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox4x32(
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0]
            ),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn streams_of_other_purposes_or_counters_differ() {
        let first = |p, a, b| Stream::new(7, p, a, b).next_u64();
        let base = first(Purpose::Init, 0, 0);
        assert_eq!(base, first(Purpose::Init, 0, 0));
        assert_ne!(base, first(Purpose::Shuffle, 0, 0));
        assert_ne!(base, first(Purpose::Init, 1, 0));
        assert_ne!(base, first(Purpose::Init, 0, 1));
    }

    #[test]
    fn normals_have_mean_zero_and_variance_one() {
        let mut stream = Stream::new(1, Purpose::Test, 0, 0);
        let draws: Vec<f64> = (0..100_000).map(|_| stream.normal()).collect();
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        let var = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / draws.len() as f64;
        // Standard errors: 0.0032 and 0.0045.
        assert!(mean.abs() < 0.013 && (var - 1.0).abs() < 0.018, "mean {mean}, variance {var}");
    }

    /// The largest distance between the distribution of 20,000 draws and the true one.
    fn beta_distance(alpha: f64, distribution: impl Fn(f64) -> f64) -> f64 {
        let mut stream = Stream::new(1, Purpose::Test, 1, 0);
        let mut draws: Vec<f64> = (0..20_000).map(|_| stream.beta(alpha)).collect();
        draws.sort_by(f64::total_cmp);
        let share = |i: usize| (i as f64 + 0.5) / draws.len() as f64;
        let distances = draws.iter().enumerate().map(|(i, &x)| (distribution(x) - share(i)).abs());
        distances.fold(0.0, f64::max)
    }

    #[test]
    fn beta_has_its_distribution() {
        // Kolmogorov: beyond 1.95 / sqrt(20,000) once in a thousand seeds.
        const FAR: f64 = 0.0138;
        let distances = [
            beta_distance(1.0, |x| x),
            beta_distance(0.5, |x| 2.0 / std::f64::consts::PI * x.sqrt().asin()),
            beta_distance(2.0, |x| x * x * (3.0 - 2.0 * x)),
        ];
        assert!(distances.iter().all(|&distance| distance < FAR), "{distances:?}");
        // So small that both gammas underflow: nearly all draws are at an end, half of them at each.
        let mut stream = Stream::new(1, Purpose::Test, 2, 0);
        let draws: Vec<f64> = (0..1000).map(|_| stream.beta(1e-3)).collect();
        assert!(draws.iter().all(|x| (0.0..=1.0).contains(x)));
        let high = draws.iter().filter(|&&x| 0.5 < x).count();
        assert!((400..600).contains(&high), "{high}");
    }

    #[test]
    fn a_shuffle_is_a_permutation() {
        let mut items: Vec<u32> = (0..1000).collect();
        Stream::new(3, Purpose::Shuffle, 2, 0).shuffle(&mut items);
        assert_ne!(items[..10], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        items.sort_unstable();
        assert!(items.iter().enumerate().all(|(i, &x)| i == x as usize));
    }
}
