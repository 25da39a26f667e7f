//! Choice of algorithms: a function of a layer's geometry, the purpose and the instruction set
//! alone, so that a picture's logits are the same bits in any batch and on any number of threads.

use resnet_simd::Isa;

use crate::kernel::conv::{ConvShape, Tiles};

/// What a plan is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Gradients: tiles whose error is that of direct convolution.
    Training,
    /// Logits: tiles that save most.
    Inference,
    /// `--exact`: no Winograd at all.
    Exact,
}

impl Purpose {
    /// Whether the rules of accuracy let a convolution take these tiles (none: direct), whatever
    /// its geometry: what [`winograd_tiles`] chooses among.
    pub(crate) fn allows(self, tiles: Option<Tiles>) -> bool {
        match (self, tiles) {
            (_, None) | (Purpose::Training, Some(Tiles::Two)) | (Purpose::Inference, Some(_)) => {
                true
            }
            (Purpose::Training, Some(Tiles::Four)) | (Purpose::Exact, Some(_)) => false,
        }
    }
}

/// Channels from which on transforms cost less than the products that they save.
const LEAST_CHANNELS: usize = 16;
/// Pictures of this side on fill tiles of four well enough; measured against tiles of two.
const LEAST_SIDE_FOR_FOUR: usize = 12;
/// Smaller pictures than this waste most of a tile.
const LEAST_SIDE: usize = 4;

/// Winograd's tiles for a 3x3 convolution of stride 1, if they win over direct.
pub(crate) fn winograd_tiles(shape: &ConvShape, isa: Isa, purpose: Purpose) -> Option<Tiles> {
    // The portable engine is the yardstick of the others.
    if isa == Isa::Portable || shape.cin.min(shape.cout) < LEAST_CHANNELS {
        return None;
    }
    let side = shape.oh.min(shape.ow);
    if side < LEAST_SIDE {
        return None;
    }
    match purpose {
        Purpose::Exact => None,
        Purpose::Training => Some(Tiles::Two),
        Purpose::Inference if LEAST_SIDE_FOR_FOUR <= side => Some(Tiles::Four),
        Purpose::Inference => Some(Tiles::Two),
    }
}
