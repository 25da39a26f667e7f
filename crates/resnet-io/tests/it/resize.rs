//! Scaling against hashes of Pillow's pixels.

use resnet_io::ImageRef;
use resnet_io::resize::{Filter, resize};

use crate::real_data::sha256;

#[test]
fn every_size_and_filter_has_pillows_pixels() {
    let fixture = include_str!("../fixtures/resize.tsv");
    for line in fixture.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = line.split('\t').collect();
        let [w, h, width, height] = [0, 1, 2, 3].map(|i| fields[i].parse::<usize>().unwrap());
        let byte = |i: usize| ((i as u32).wrapping_mul(2_654_435_761) >> 24) as u8;
        let pixels: Vec<u8> = (0..3 * w * h).map(byte).collect();
        let filters = [Filter::Nearest, Filter::Box, Filter::Bilinear, Filter::Bicubic];
        let mut filters = filters.into_iter().chain([Filter::Lanczos]);
        let filter = filters.find(|filter| filter.name() == fields[4]).unwrap();
        let picture = ImageRef { width: w, height: h, pixels: &pixels };
        let scaled = resize(picture, width, height, filter);
        assert_eq!(sha256(&scaled.pixels), fields[5], "{w}x{h} to {width}x{height} {filter:?}");
    }
}
