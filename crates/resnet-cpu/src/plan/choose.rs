//! Choice of algorithms: a function of a layer's geometry, the purpose and the instruction set
//! alone, so that a picture's logits are the same bits in any batch and on any number of threads.

use resnet_simd::Isa;

use crate::kernel::conv::{ConvShape, Direction, Tiles};

/// What a plan is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Gradients.
    Training,
    /// Logits.
    Inference,
    /// `--exact`: no Winograd at all.
    Exact,
}

impl Purpose {
    /// Whether the rules of accuracy let a convolution take these tiles (none: direct) in a
    /// direction: what the functions below choose among.
    ///
    /// F(4x4)'s error is 2.0 to 2.3 times direct convolution's from 64 input channels on, and 2.9
    /// times with 16, since direct sums then have few terms. Everything after it in the network
    /// inherits the forward pass's: with it everywhere, gradients of plain20 are 3.9 times as far
    /// from f64 as PyTorch's f32.
    pub(crate) fn allows(self, shape: &ConvShape, direction: Direction, tiles: Tiles) -> bool {
        match self {
            Purpose::Exact => false,
            Purpose::Inference => true,
            Purpose::Training => {
                tiles != Tiles::Four
                    || direction != Direction::Forward
                    || LEAST_CHANNELS_FOR_FOUR <= shape.cin
            }
        }
    }
}

/// Channels from which on transforms cost less than the products that they save.
const LEAST_CHANNELS: usize = 16;
/// Input channels from which on training's forward pass may take tiles of four.
const LEAST_CHANNELS_FOR_FOUR: usize = 64;
/// Smaller pictures than this have too few tiles to repay the transform of the weights.
const LEAST_SIDE: usize = 4;

/// Winograd's tiles for a direction of a convolution, if they win over direct: those with fewer
/// products, at the picture's borders too; of equals the more exact ones.
pub(crate) fn tiles(
    shape: &ConvShape,
    isa: Isa,
    purpose: Purpose,
    direction: Direction,
) -> Option<Tiles> {
    // The portable engine is the yardstick of the others.
    if isa == Isa::Portable || shape.oh.min(shape.ow) < LEAST_SIDE {
        return None;
    }
    let pays = |tiles: &Tiles| {
        let channels = match tiles {
            Tiles::Two | Tiles::Four => shape.cin.min(shape.cout),
            Tiles::Three => shape.cout,
        };
        LEAST_CHANNELS <= channels
    };
    Tiles::ALL
        .into_iter()
        .filter(|tiles| tiles.fit(shape, direction) && purpose.allows(shape, direction, *tiles))
        .filter(pays)
        .min_by_key(|tiles| tiles.products_of(shape))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tiles of a convolution of one picture's forward pass.
    fn forward(shape: &ConvShape, isa: Isa, purpose: Purpose) -> Option<Tiles> {
        tiles(shape, isa, purpose, Direction::Forward)
    }

    fn with_vectors() -> impl Iterator<Item = Isa> {
        Isa::available().into_iter().filter(|isa| *isa != Isa::Portable)
    }

    #[test]
    fn the_stem_and_3x3_take_the_tiles_with_fewest_products() {
        let stem = ConvShape::new((1, 224, 224, 3), 64, 7, 2, 3);
        let wide = ConvShape::new((1, 56, 56, 64), 64, 3, 1, 1);
        let last = ConvShape::new((1, 2, 2, 512), 512, 3, 1, 1);
        for isa in with_vectors() {
            for purpose in [Purpose::Inference, Purpose::Training] {
                assert_eq!(forward(&stem, isa, purpose), Some(Tiles::Three));
                assert_eq!(forward(&wide, isa, purpose), Some(Tiles::Four));
                assert_eq!(forward(&last, isa, purpose), None);
            }
            assert_eq!(forward(&stem, isa, Purpose::Exact), None);
            assert_eq!(forward(&wide, isa, Purpose::Exact), None);
        }
        assert_eq!(forward(&stem, Isa::Portable, Purpose::Inference), None);
    }

    #[test]
    fn training_keeps_few_channels_in_the_more_exact_tiles() {
        let narrow = ConvShape::new((1, 32, 32, 16), 16, 3, 1, 1);
        for isa in with_vectors() {
            assert_eq!(forward(&narrow, isa, Purpose::Inference), Some(Tiles::Four));
            assert_eq!(forward(&narrow, isa, Purpose::Training), Some(Tiles::Two));
        }
    }
}
