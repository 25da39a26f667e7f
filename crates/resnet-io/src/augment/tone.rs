//! Changes of each value by a table: posterise, solarise, invert, stretch and equalise, as Pillow's `ImageOps`.

/// A new value for each of a channel.
type Table = [u8; 256];

fn table(value: impl Fn(u8) -> u8) -> Table {
    std::array::from_fn(|i| value(i as u8))
}

fn apply(pixels: &mut [u8], tables: &[Table; 3]) {
    for rgb in pixels.as_chunks_mut::<3>().0 {
        for (v, table) in rgb.iter_mut().zip(tables) {
            *v = table[usize::from(*v)];
        }
    }
}

/// Keeps the highest `bits` of each value.
pub(super) fn posterize(pixels: &mut [u8], bits: u32) {
    let mask = if bits == 0 { 0 } else { 0xff << 8u32.saturating_sub(bits) } as u8;
    pixels.iter_mut().for_each(|v| *v &= mask);
}

/// Inverts all values from `threshold` on.
pub(super) fn solarize(pixels: &mut [u8], threshold: f64) {
    pixels.iter_mut().for_each(|v| {
        if threshold <= f64::from(*v) {
            *v = 255 - *v;
        }
    });
}

/// Inverts all values.
pub(super) fn invert(pixels: &mut [u8]) {
    pixels.iter_mut().for_each(|v| *v = 255 - *v);
}

/// Stretches each channel so that it reaches from 0 to 255.
pub(super) fn autocontrast(pixels: &mut [u8]) {
    let tables = histograms(pixels).map(|histogram| {
        let lowest = histogram.iter().position(|&count| count != 0).unwrap_or(0);
        let highest = histogram.iter().rposition(|&count| count != 0).unwrap_or(0);
        if highest <= lowest {
            return table(|v| v);
        }
        let scale = 255.0 / (highest - lowest) as f64;
        let offset = -(lowest as f64) * scale;
        // The cast truncates and saturates.
        table(|v| (f64::from(v) * scale + offset) as u8)
    });
    apply(pixels, &tables);
}

/// Spreads each channel so that all values are about as frequent.
pub(super) fn equalize(pixels: &mut [u8]) {
    let tables = histograms(pixels).map(|histogram| {
        let last = histogram.iter().rev().find(|&&count| count != 0).copied().unwrap_or(0);
        let step = (histogram.iter().sum::<usize>() - last) / 255;
        if step == 0 {
            return table(|v| v);
        }
        let mut before = step / 2;
        std::array::from_fn(|v| {
            let value = before / step;
            before += histogram[v];
            value.min(255) as u8
        })
    });
    apply(pixels, &tables);
}

/// How often each value is there, a channel.
fn histograms(pixels: &[u8]) -> [[usize; 256]; 3] {
    let mut histograms = [[0; 256]; 3];
    for rgb in pixels.as_chunks::<3>().0 {
        for (histogram, &v) in histograms.iter_mut().zip(rgb) {
            histogram[usize::from(v)] += 1;
        }
    }
    histograms
}
