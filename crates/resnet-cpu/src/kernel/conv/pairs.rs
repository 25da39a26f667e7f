//! Weights as pairs of bf16: what products of two numbers a word multiply with.
//!
//! Word `j` of row `k` of a tap holds the weights of input channels `2k` and `2k + 1`, each rounded to
//! the nearest, the first in the lower half: as two channels of a pixel lie in memory.

use resnet_simd::{Element, Isa, Kernel, Simd, bf16};

use super::PackedLayout;
use crate::threads::{DisjointMut, ThreadPool};

/// The widest panel.
const MAX_WIDTH: usize = 32;

/// Rounds packed weights to the words of [`PackedLayout::in_pairs`].
///
/// # Panics
/// If a slice's length is not that of `layout`, or of its words.
pub(super) fn pack_pairs(
    layout: &PackedLayout,
    isa: Isa,
    pool: &ThreadPool,
    packed: &[f32],
    words: &mut [f32],
) {
    assert_eq!(packed.len(), layout.len(), "packed weights");
    assert_eq!(2 * words.len(), packed.len(), "pairs of weights");
    let words = DisjointMut::new(words);
    let tasks = layout.panels() * layout.taps;
    pool.run(tasks, &|task| {
        let (panel, tap) = (layout.panel(task / layout.taps), task % layout.taps);
        let len = layout.cin * panel.width;
        let start = panel.start + tap * len;
        // SAFETY: tasks are the pairs (panel, tap), whose parts of the buffer do not overlap.
        let words = unsafe { words.slice(start / 2..(start + len) / 2) };
        isa.run(Part { rows: &packed[start..start + len], width: panel.width, words });
    });
}

/// One tap of one panel.
struct Part<'a> {
    rows: &'a [f32],
    width: usize,
    words: &'a mut [f32],
}

impl Kernel for Part<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let width = self.width;
        let words = self.words.chunks_exact_mut(width);
        for (rows, words) in self.rows.chunks_exact(2 * width).zip(words) {
            let mut halves = [bf16::ZERO; 2 * MAX_WIDTH];
            let (first, second) = halves[..2 * width].split_at_mut(width);
            for (row, half) in rows.chunks_exact(width).zip([&mut *first, &mut *second]) {
                for (row, half) in row.chunks(S::LANES).zip(half.chunks_mut(S::LANES)) {
                    bf16::store_partial(s, s.load_partial(row), half);
                }
            }
            for ((word, first), second) in words.iter_mut().zip(first).zip(second) {
                *word = pair(*first, *second);
            }
        }
    }
}

/// Two numbers as a word.
fn pair(first: bf16, second: bf16) -> f32 {
    f32::from_bits(u32::from(first.to_bits()) | u32::from(second.to_bits()) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::conv::ConvShape;

    #[test]
    fn a_word_holds_the_rounded_weights_of_two_inputs() {
        let shape = ConvShape::linear(1, 6, 40);
        for isa in Isa::available() {
            let layout = PackedLayout::new(&shape, isa);
            let weight = |input: usize, output: usize| 1.0 + (40 * input + output) as f32 / 1000.0;
            let oihw: Vec<f32> = (0..240).map(|i| weight(i % 6, i / 6)).collect();
            let (mut packed, mut words) =
                (vec![0.0; layout.len()], vec![f32::NAN; layout.len() / 2]);
            layout.pack(&oihw, &mut packed);
            pack_pairs(&layout, isa, &ThreadPool::new(2), &packed, &mut words);
            let pairs = layout.in_pairs().unwrap();
            for panel in (0..pairs.panels()).map(|index| pairs.panel(index)) {
                for (input, output) in (0..3).flat_map(|k| (0..panel.channels).map(move |j| (k, j)))
                {
                    let word = words[panel.start + input * panel.width + output].to_bits();
                    let expected = [2 * input, 2 * input + 1]
                        .map(|input| bf16::from_f32(weight(input, panel.first + output)).to_bits());
                    assert_eq!([word as u16, (word >> 16) as u16], expected);
                }
            }
        }
    }
}
