//! The conformance suite on the reference executor itself, in f32.

use std::collections::BTreeSet;

use resnet_core::conformance::cases;
use resnet_core::reference::ReferenceExecutor;

#[test]
fn the_reference_in_f32_conforms() {
    for case in cases() {
        if let Err(failure) = case.check(&mut ReferenceExecutor::<f32>::new()) {
            panic!("{failure}");
        }
    }
}

/// Which operations the cases hold. A new one that is not here has no case.
#[test]
fn every_operation_has_a_case() {
    let cases = cases();
    let ops: BTreeSet<&str> = cases
        .iter()
        .flat_map(|case| case.graphs().flat_map(|graph| &graph.nodes))
        .map(|node| node.op.name())
        .collect();
    assert_eq!(ops.len(), 44, "{ops:?}");
    let names: BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), cases.len(), "every case has a name of its own");
}
