//! Names and detection.

use resnet_simd::Isa;

#[test]
fn every_available_set_is_found_by_its_name() {
    for isa in Isa::available() {
        assert_eq!(Isa::parse(isa.name()), Ok(isa));
    }
    assert_eq!(Isa::available().last(), Some(&Isa::detect()));
}

#[test]
fn an_unknown_name_is_an_error_that_lists_the_known_ones() {
    let error = Isa::parse("neon2").unwrap_err().to_string();
    assert_eq!(error, "unknown instruction set \"neon2\", expected portable, avx2 or avx512");
}
