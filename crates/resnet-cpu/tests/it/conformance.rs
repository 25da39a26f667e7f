//! The conformance suite on every instruction set, with Winograd's tiles and without.

use resnet_core::conformance::cases;
use resnet_core::conformance::rounding::roundings;
use resnet_cpu::executor::{CpuExecutor, CpuOptions};
use resnet_simd::Isa;

#[test]
fn the_engine_conforms() {
    let mut failures = Vec::new();
    for case in cases() {
        for isa in Isa::available() {
            for exact in [false, true] {
                let options = CpuOptions { exact, checked: true, ..CpuOptions::new(isa, 2) };
                if let Err(failure) = case.check(&mut CpuExecutor::new(options)) {
                    failures.push(format!("{}, exact: {exact}: {failure}", isa.name()));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn activations_in_bf16_cost_no_more_than_their_rounding() {
    let mut failures = Vec::new();
    for network in roundings() {
        for isa in Isa::available() {
            let options = CpuOptions { checked: true, ..CpuOptions::new(isa, 2) };
            if let Err(failure) = network.check(|| CpuExecutor::new(options)) {
                failures.push(format!("{}: {failure}", isa.name()));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
