//! Random erasing (Zhong et al. 2017, arXiv:1708.04896), with torchvision's draws.

use resnet_core::rng::Stream;

use crate::picture::Image;

/// A rectangle: left, top, width, height.
pub(super) type Rectangle = [usize; 4];

/// torchvision's `RandomErasing.get_params`: ten tries at an area and proportions (rows over columns) that fit inside, else
/// nothing.
pub(super) fn rectangle(
    (width, height): (usize, usize),
    (scale, ratio): ([f64; 2], [f64; 2]),
    stream: &mut Stream,
) -> Option<Rectangle> {
    let area = (width * height) as f64;
    let between = |[low, high]: [f64; 2], u: f64| low + (high - low) * u;
    let log_ratio = ratio.map(libm::log);
    for _ in 0..10 {
        let target = area * between(scale, stream.uniform_f64());
        let proportion = libm::exp(between(log_ratio, stream.uniform_f64()));
        let h = (target * proportion).sqrt().round_ties_even() as usize;
        let w = (target / proportion).sqrt().round_ties_even() as usize;
        if h < height && w < width {
            let y = stream.below((height - h + 1) as u32) as usize;
            let x = stream.below((width - w + 1) as u32) as usize;
            return Some([x, y, w, h]);
        }
    }
    None
}

/// Fills a rectangle with one colour.
pub(super) fn erase(image: &mut Image, [x, y, w, h]: Rectangle, rgb: [u8; 3]) {
    for row in image.pixels.chunks_exact_mut(3 * image.width).skip(y).take(h) {
        row[3 * x..3 * (x + w)].as_chunks_mut::<3>().0.fill(rgb);
    }
}
