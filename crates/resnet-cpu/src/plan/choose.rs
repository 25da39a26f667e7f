//! Choice of algorithms: a function of a layer's geometry, the purpose and the instruction set
//! alone, so that a picture's logits are the same bits in any batch and on any number of threads.

use resnet_simd::Isa;

use crate::kernel::conv::{ConvShape, Direction, Tiles};

/// What a plan is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Gradients: tiles whose error does not add up to more than direct convolution's.
    Training,
    /// Logits: tiles that save most.
    Inference,
    /// `--exact`: no Winograd at all.
    Exact,
}

impl Purpose {
    /// Whether the rules of accuracy let a direction of a convolution take these tiles (none:
    /// direct), whatever its geometry: what [`forward_tiles`] and [`gradient_tiles`] choose among.
    pub(crate) fn allows(self, direction: Direction, tiles: Option<Tiles>) -> bool {
        match (self, tiles) {
            (_, None) | (Purpose::Training, Some(Tiles::Two)) | (Purpose::Inference, Some(_)) => {
                true
            }
            (Purpose::Training, Some(Tiles::Four)) => direction == Direction::InputGrad,
            (Purpose::Exact, Some(_)) => false,
        }
    }
}

/// Channels from which on transforms cost less than the products that they save.
const LEAST_CHANNELS: usize = 16;
/// Pictures of this side on fill tiles of four well enough; measured against tiles of two.
const LEAST_SIDE_FOR_FOUR: usize = 12;
/// Smaller pictures than this waste most of a tile.
const LEAST_SIDE: usize = 4;

/// Winograd's tiles for the forward pass of a 3x3 convolution of stride 1, if they win over direct.
pub(crate) fn forward_tiles(shape: &ConvShape, isa: Isa, purpose: Purpose) -> Option<Tiles> {
    match purpose {
        Purpose::Exact => None,
        // Everything after it in the network inherits the forward pass's error: the smaller one.
        Purpose::Training => largest_tiles(shape, isa).map(|_| Tiles::Two),
        Purpose::Inference => largest_tiles(shape, isa),
    }
}

/// The same for the input gradient. With tiles of four in the forward pass too, gradients of resnet18-d
/// are 3.3 times as far from f64 as PyTorch's f32 (median of five seeds); with them here alone, 1.6.
pub(crate) fn gradient_tiles(shape: &ConvShape, isa: Isa, purpose: Purpose) -> Option<Tiles> {
    match purpose {
        Purpose::Exact => None,
        Purpose::Training | Purpose::Inference => largest_tiles(shape, isa),
    }
}

/// The tiles that save most, for pictures of this size.
fn largest_tiles(shape: &ConvShape, isa: Isa) -> Option<Tiles> {
    // The portable engine is the yardstick of the others.
    if isa == Isa::Portable || shape.cin.min(shape.cout) < LEAST_CHANNELS {
        return None;
    }
    match shape.oh.min(shape.ow) {
        0..LEAST_SIDE => None,
        LEAST_SIDE..LEAST_SIDE_FOR_FOUR => Some(Tiles::Two),
        LEAST_SIDE_FOR_FOUR.. => Some(Tiles::Four),
    }
}
