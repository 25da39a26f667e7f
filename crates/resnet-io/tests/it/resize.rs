//! Scaling against hashes of Pillow's pixels.

use resnet_io::ImageRef;
use resnet_io::resize::resize;

use crate::real_data::sha256;

#[test]
fn every_size_has_pillows_pixels() {
    let fixture = include_str!("../fixtures/resize.tsv");
    for line in fixture.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = line.split('\t').collect();
        let [w, h, width, height] = [0, 1, 2, 3].map(|i| fields[i].parse::<usize>().unwrap());
        let byte = |i: usize| ((i as u32).wrapping_mul(2_654_435_761) >> 24) as u8;
        let pixels: Vec<u8> = (0..3 * w * h).map(byte).collect();
        let scaled = resize(ImageRef { width: w, height: h, pixels: &pixels }, width, height);
        assert_eq!(sha256(&scaled.pixels), fields[4], "{w}x{h} to {width}x{height}");
    }
}
