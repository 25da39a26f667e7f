//! Aligned buffers.

use resnet_simd::AlignedVec;

#[track_caller]
fn check(len: usize, align: usize) {
    let mut v = AlignedVec::<f32>::zeroed(len);
    assert_eq!(v.len(), len);
    assert!(v.iter().all(|&x| x.to_bits() == 0), "not zero, {len} elements");
    assert!((v.as_ptr() as usize).is_multiple_of(align), "{len} elements not aligned to {align}");
    v.fill(1.5);
    assert_eq!(v, v.clone());
}

#[test]
fn small_buffers_start_on_a_cache_line() {
    for len in [1, 2, 15, 16, 17, 1000, 100_000] {
        check(len, 64);
    }
}

#[test]
fn large_buffers_start_on_a_huge_page() {
    for len in [(2 << 20) / 4, (2 << 20) / 4 + 1, 600_000] {
        check(len, 2 << 20);
    }
}

#[test]
fn an_empty_buffer_is_fine() {
    assert!(AlignedVec::<u32>::zeroed(0).is_empty());
    assert_eq!(AlignedVec::from_slice(&[1u8, 2, 3])[..], [1, 2, 3]);
}
