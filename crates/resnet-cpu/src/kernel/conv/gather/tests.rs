//! What a gather tells of its reads, beside the reads themselves.

use resnet_simd::{Isa, Kernel, Simd};

use super::*;

/// One past the last source element that these pixels read.
struct EndOfReads<'a> {
    gather: &'a Gather,
    source: &'a [f32],
    pixels: Range<usize>,
}

impl Kernel for EndOfReads<'_> {
    type Output = usize;

    fn run<S: Simd>(self, s: S) -> usize {
        let (mut table, all) = (Table::new(), self.source.as_ptr_range());
        let source = (all.start.cast(), Stored::F32);
        // SAFETY: the source is as long as the gather's shape says; nothing is copied.
        unsafe { self.gather.fill(s, source, self.pixels, &mut [], &mut table) };
        let rows = (0..table.taps).flat_map(|tap| table.tap(tap).to_vec());
        let inside = rows.filter(|row| all.contains(row));
        let last = inside.max().expect("some taps lie inside");
        (last.addr() - all.start.addr()) / size_of::<f32>() + self.gather.source.c
    }
}

#[test]
fn what_pixels_newly_read_ends_where_their_reads_end() {
    let shape = |kernel, stride| ConvShape::new((2, 12, 8, 12), 7, kernel, stride, kernel / 2);
    for shape in [shape(1, 1), shape(3, 1), shape(3, 2), shape(5, 1)] {
        let gather = Gather::forward(&shape, shape.cin);
        let source = vec![0.0; shape.input_len()];
        for image in 0..shape.n {
            // Rows of pixels that do not reach over the picture's lower edge.
            for row in 0..shape.oh - shape.kh / 2 {
                let first = (image * shape.oh + row) * shape.ow;
                let pixels = first..first + shape.ow;
                let end = EndOfReads { gather: &gather, source: &source, pixels: pixels.clone() };
                let end = Isa::Portable.run(end);
                assert_eq!(gather.newly_read(pixels).end, end, "{shape:?}, row {row} of {image}");
            }
        }
    }
}

#[test]
fn every_stride_reads_all_but_of_a_single_tap() {
    let gather = |kernel, stride| {
        let shape = ConvShape::new((2, 12, 8, 16), 7, kernel, stride, kernel / 2);
        Gather::forward(&shape, shape.cin)
    };
    assert!(gather(1, 1).reads_all() && gather(3, 1).reads_all() && gather(3, 2).reads_all());
    assert!(!gather(1, 2).reads_all());
}
