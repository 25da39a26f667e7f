//! Tests of `resnet-io` from the outside, in one binary.

mod weights;
