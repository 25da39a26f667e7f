//! Running the steps of int8 inference.

use super::memory::Operands;
use super::run::Machine;
use crate::kernel::Source;
use crate::kernel::int8::{self, Int8Output, Int8Target};
use crate::plan::Slot;
use crate::plan::int8::Int8Work;

/// Bytes that are read where others are written, or in their place.
fn source<'m>(at: &Operands<'m>, x: Slot, y: Slot) -> Source<'m, u8> {
    if x == y { Source::InPlace } else { Source::From(at.read_bytes(x)) }
}

/// Runs one step.
pub(super) fn work(machine: Machine<'_>, work: &Int8Work, at: &Operands<'_>) {
    let Machine { isa, pool } = machine;
    match work {
        Int8Work::Pack { layout, w, offset, multiplier, packed } => {
            let packed = at.write_bytes(*packed);
            layout.pack(at.read(*w), at.read(*offset), at.read(*multiplier), packed);
        }
        Int8Work::Conv { plan, x, packed, add, y, scratch } => {
            let (x, packed) = (at.read_bytes(*x), at.read_bytes(*packed));
            let add = add.map(|add| source(at, add, *y));
            let scratch = scratch.map_or(&mut [][..], |scratch| at.write_bytes(scratch));
            let y = match plan.output() {
                Int8Output::Bytes => Int8Target::Bytes(at.write_bytes(*y)),
                Int8Output::Floats => Int8Target::Floats(at.write(*y)),
            };
            int8::int8_conv(plan, pool, x, packed, add, y, scratch);
        }
        Int8Work::MaxPool { windows, x, y } => {
            int8::max_pool(isa, pool, *windows, at.read_bytes(*x), at.write_bytes(*y));
        }
        Int8Work::GlobalAvgPool { dims: [_, h, w, c], offset, multiplier, x, y } => {
            let (x, y) = (at.read_bytes(*x), at.write_bytes(*y));
            int8::global_average_pool(isa, pool, (h * w, *c), (*offset, *multiplier), x, y);
        }
        Int8Work::SubsamplePad { dims: [_, h, w, c], shortcut, zero, x, y } => {
            let (x, y) = (at.read_bytes(*x), at.write_bytes(*y));
            int8::subsample_pad(pool, *shortcut, *zero, [*h, *w, *c], x, y);
        }
        Int8Work::Quantize { affine, x, y } => {
            int8::quantize(pool, *affine, at.read(*x), at.write_bytes(*y));
        }
        Int8Work::Dequantize { affine, x, y } => {
            int8::dequantize(pool, *affine, at.read_bytes(*x), at.write(*y));
        }
    }
}
