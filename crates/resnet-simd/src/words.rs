//! What a product multiplies word by word: one f32 a word, or two bf16.

use crate::{Isa, Portable, Simd, Stored};

/// Vectors whose words of 32 bits hold one number each, or two: what products are written over.
///
/// Sums are f32 either way, and so are the vectors' types: a word that holds two bf16, the first one
/// in its lower half, is moved as if it were a float.
///
/// Like [`Simd`], a value proves that the CPU has the instructions, and methods are to be called below
/// [`Isa::run_words`].
pub trait Words: Copy + Send + Sync + 'static {
    /// The vectors of the sums.
    type Floats: Simd;

    /// The token of the sums.
    fn floats(self) -> Self::Floats;

    /// To each sum the products of its word of `x` with its word of `w`.
    ///
    /// Of two bf16 the second product is added first, and each addition rounds once (twice on
    /// [`Portable`]). Denormal operands, sums and results may count as zero: instructions treat them so.
    fn multiply_add(
        self,
        x: <Self::Floats as Simd>::F32,
        w: <Self::Floats as Simd>::F32,
        sum: <Self::Floats as Simd>::F32,
    ) -> <Self::Floats as Simd>::F32;
}

/// Work that is written once for all words and instruction sets; as [`Kernel`](crate::Kernel).
pub trait WordsKernel {
    /// What the work returns.
    type Output;

    /// Does the work with the vectors of `W`.
    fn run<W: Words>(self, w: W) -> Self::Output;
}

/// One f32 a word.
#[derive(Clone, Copy, Debug)]
pub struct Singles<S>(pub S);

impl<S: Simd> Words for Singles<S> {
    type Floats = S;

    #[inline(always)]
    fn floats(self) -> S {
        self.0
    }

    #[inline(always)]
    fn multiply_add(self, x: S::F32, w: S::F32, sum: S::F32) -> S::F32 {
        self.0.mul_add(x, w, sum)
    }
}

/// Two bf16 a word in plain Rust: what the instructions mean, denormal numbers apart.
#[derive(Clone, Copy, Debug)]
pub struct PortablePairs;

impl Words for PortablePairs {
    type Floats = Portable;

    #[inline(always)]
    fn floats(self) -> Portable {
        Portable
    }

    #[inline(always)]
    fn multiply_add(
        self,
        x: <Portable as Simd>::F32,
        w: <Portable as Simd>::F32,
        sum: <Portable as Simd>::F32,
    ) -> <Portable as Simd>::F32 {
        let first = |word: f32| f32::from_bits(word.to_bits() << 16);
        let second = |word: f32| f32::from_bits(word.to_bits() & 0xffff_0000);
        let sum = Portable.mul_add(x.map(second), w.map(second), sum);
        Portable.mul_add(x.map(first), w.map(first), sum)
    }
}

impl Isa {
    /// Whether [`run_words`](Isa::run_words) has products of two bf16: everywhere but on CPUs that
    /// would need several instructions for one.
    pub fn has_bf16_pairs(self) -> bool {
        match self {
            Isa::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(_) => false,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(s) => crate::Bf16Pairs::detect(s).is_some(),
        }
    }

    /// Whether they do more multiply-adds in a time than f32 does.
    ///
    /// From Zen 4 on one instruction for 32 products takes as long as one for 16 of f32. Intel's cores
    /// leave them to AMX: a Xeon with AVX-512 FP16 does one in the time of four of f32 (measured: 90
    /// beside 179 GFLOP/s), and is faster when it widens the numbers.
    pub fn gains_by_bf16_pairs(self) -> bool {
        match self {
            Isa::Portable => false,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(_) => false,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(_) => self.has_bf16_pairs() && crate::x86::is_amd(),
        }
    }

    /// Runs `kernel` on words that hold numbers stored so.
    ///
    /// # Panics
    /// For bf16 where [`has_bf16_pairs`](Isa::has_bf16_pairs) says no.
    #[inline]
    pub fn run_words<K: WordsKernel>(self, stored: Stored, kernel: K) -> K::Output {
        match (stored, self) {
            (Stored::F32, _) => self.run(OnSingles(kernel)),
            (Stored::Bf16, Isa::Portable) => kernel.run(PortablePairs),
            #[cfg(target_arch = "x86_64")]
            (Stored::Bf16, Isa::Avx2(_)) => panic!("avx2 has no products of bf16"),
            #[cfg(target_arch = "x86_64")]
            (Stored::Bf16, Isa::Avx512(s)) => {
                let s = crate::Bf16Pairs::detect(s).expect("a cpu with products of bf16");
                // SAFETY: the token exists only if the CPU has the features that it enables.
                unsafe { run_bf16_pairs(s, kernel) }
            }
        }
    }
}

/// A kernel on words as one on floats.
struct OnSingles<K>(K);

impl<K: WordsKernel> crate::Kernel for OnSingles<K> {
    type Output = K::Output;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> K::Output {
        self.0.run(Singles(s))
    }
}

/// The same list as `Avx512::detect` and `Bf16Pairs::detect` check.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
fn run_bf16_pairs<K: WordsKernel>(s: crate::Bf16Pairs, kernel: K) -> K::Output {
    kernel.run(s)
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;

    /// Words of two bf16 of both signs and many sizes, none of them denormal, nor any product.
    fn words(seed: u32, len: usize) -> Vec<[bf16; 2]> {
        let number = |i: u32| {
            let hash = (i ^ seed).wrapping_mul(0x9E37_79B1);
            let exponent = 112 + (hash >> 8) % 24;
            bf16::from_bits((hash >> 16) as u16 & 0x807f | (exponent << 7) as u16)
        };
        (0..len as u32).map(|i| [number(2 * i), number(2 * i + 1)]).collect()
    }

    struct Once<'a> {
        x: &'a [[bf16; 2]],
        w: &'a [[bf16; 2]],
        sums: &'a mut [f32],
    }

    impl WordsKernel for Once<'_> {
        type Output = ();

        #[inline(always)]
        fn run<W: Words>(self, words: W) {
            let s = words.floats();
            let lanes = <W::Floats as Simd>::LANES;
            let pairs = self.x.chunks(lanes).zip(self.w.chunks(lanes));
            for ((x, w), sums) in pairs.zip(self.sums.chunks_mut(lanes)) {
                assert_eq!([x.len(), w.len()], [lanes; 2]);
                // SAFETY: a vector's words each, as just checked.
                let [x, w] = [x, w].map(|x| unsafe { s.load_ptr(x.as_ptr().cast()) });
                let sum = words.multiply_add(x, w, s.load(sums));
                s.store(sum, sums);
            }
        }
    }

    #[test]
    fn pairs_are_summed_up_as_exact_arithmetic_says() {
        let (x, w) = (words(1, 4096), words(2, 4096));
        let before: Vec<f32> = words(3, 4096).iter().map(|pair| pair[0].to_f32() * 1.37).collect();
        for isa in Isa::available().into_iter().filter(|isa| isa.has_bf16_pairs()) {
            let mut sums = before.clone();
            isa.run_words(Stored::Bf16, Once { x: &x, w: &w, sums: &mut sums });
            for (i, &sum) in sums.iter().enumerate() {
                let product = |k: usize| x[i][k].to_f64() * w[i][k].to_f64();
                let terms = [f64::from(before[i]), product(0), product(1)];
                let exact: f64 = terms.iter().sum();
                // Four roundings, each of at most half an ulp of all terms together.
                let bound = 2.0 * f64::from(f32::EPSILON) * terms.map(f64::abs).iter().sum::<f64>();
                assert!((f64::from(sum) - exact).abs() <= bound, "{sum} {exact} on {}", isa.name());
            }
        }
    }
}
