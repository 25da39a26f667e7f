//! After the first step no step allocates: counted, in a program of its own, since the allocator that
//! counts is the whole program's.

use std::alloc::System;

use resnet_core::build::{BuildOptions, Mode, forward};
use resnet_core::executor::{Executor, Input};
use resnet_core::op::CrossEntropy;
use resnet_core::oracle;
use resnet_core::step::{Decay, SgdOptions, Targets, gradient_graph, update_graph};
use resnet_core::zoo::network;
use resnet_cpu::executor::{CpuExecutor, CpuOptions};
use resnet_simd::Isa;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Allocations of the third step, whatever thread makes them.
fn allocations(mut step: impl FnMut()) -> usize {
    step();
    step();
    let region = Region::new(ALLOCATOR);
    step();
    let change = region.change();
    change.allocations + change.reallocations
}

fn executor() -> CpuExecutor {
    CpuExecutor::new(CpuOptions::new(Isa::detect(), 2))
}

/// One test, since tests of one program run at once.
#[test]
fn a_step_after_the_first_allocates_nothing() {
    let _ = allocations(|| drop(vec![0_u8; 1000]));
    assert_eq!(allocations(|| drop(vec![0_u8; 1000])), 1, "it counts");
    let batch = 9;
    for name in ["resnet20", "resnet18-d", "seresnet50"] {
        let mut spec = network(name).unwrap();
        (spec.input.height, spec.input.width, spec.classes) = (32, 32, 10);
        let (pixels, labels) =
            (oracle::pixels(batch * 32 * 32 * 3, 0), oracle::labels(batch, 10, 0));

        let mut inference = executor();
        let graph = forward(&spec, &BuildOptions::imagenet(batch, Mode::Evaluation)).unwrap();
        let step = inference.compile(&graph).unwrap();
        let count = allocations(|| inference.run(step, &[Input::U8(&pixels)]).unwrap());
        assert_eq!(count, 0, "{name}, inference");

        let mut training = executor();
        let options = BuildOptions::imagenet(batch, Mode::Training);
        let loss = CrossEntropy { label_smoothing: 0.0, divisor: batch };
        let graph = gradient_graph(&spec, &options, Targets::Classes, loss).unwrap();
        let sgd = SgdOptions {
            weight_decay: 1e-4,
            decay: Decay::All,
            nesterov: true,
            clip_norm: Some(1.0),
        };
        let gradients = training.compile(&graph).unwrap();
        let update = training.compile(&update_graph(&graph, &sgd).unwrap()).unwrap();
        let count = allocations(|| {
            training.run(gradients, &[Input::U8(&pixels), Input::U32(&labels)]).unwrap();
            training.run(update, &[Input::F32(&[0.1, 0.9])]).unwrap();
        });
        assert_eq!(count, 0, "{name}, training");
    }
}
