//! Other ways to cut a convolution's work than the planned one, to be measured against it.
//!
//! A cut never changes what is computed, only in how many blocks, chunks and tasks. It may change the
//! last bits of sums over pixels, as any change of the plan's rules would.

use super::ConvPlan;
use super::plan::Pass;
use super::tile::{height, height_unit};
use super::winograd::WinogradPass;
use super::winograd_transform::Tiles;
use super::winograd_weights::WinogradWeights;

/// What of a convolution is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The output.
    Forward,
    /// The gradient by the input.
    InputGrad,
    /// The gradient by the weights.
    WeightGrad,
}

/// A change of a plan's cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cut {
    /// None.
    Planned,
    /// Half the pixels or tiles a block.
    HalfBlocks,
    /// Twice the pixels or tiles a block.
    DoubleBlocks,
    /// Half the parts that panels are shared out in; of the weight gradient half the chunks.
    HalfParts,
    /// Twice the parts, or chunks.
    DoubleParts,
}

impl Cut {
    /// All of them.
    pub const ALL: [Cut; 5] =
        [Cut::Planned, Cut::HalfBlocks, Cut::DoubleBlocks, Cut::HalfParts, Cut::DoubleParts];

    /// By what the size of a block is multiplied and divided, and the number of parts.
    fn factors(self) -> [(usize, usize); 2] {
        match self {
            Cut::Planned => [(1, 1), (1, 1)],
            Cut::HalfBlocks => [(1, 2), (1, 1)],
            Cut::DoubleBlocks => [(2, 1), (1, 1)],
            Cut::HalfParts => [(1, 1), (1, 2)],
            Cut::DoubleParts => [(1, 1), (2, 1)],
        }
    }

    fn scaled(self, block: usize, parts: usize) -> (usize, usize) {
        let [of_block, of_parts] = self.factors();
        (block * of_block.0 / of_block.1, parts * of_parts.0 / of_parts.1)
    }
}

impl ConvPlan {
    /// The Winograd tiles that a direction takes, if any.
    pub fn tiles(&self, direction: Direction) -> Option<Tiles> {
        match direction {
            Direction::Forward => self.winograd_forward.as_ref().map(|pass| pass.tiles),
            Direction::InputGrad => self.winograd_gradient.as_ref().map(|pass| pass.tiles),
            Direction::WeightGrad => self.winograd_weights.as_ref().map(WinogradWeights::tiles),
        }
    }

    /// The same plan with one direction cut otherwise, or none where that comes to the same cut.
    pub fn with_cut(&self, direction: Direction, cut: Cut) -> Option<ConvPlan> {
        let mut plan = ConvPlan { shares_blocks: false, ..self.clone() };
        match direction {
            Direction::Forward => match &self.winograd_forward {
                Some(pass) => plan.winograd_forward = Some(self.cut_tiles(pass, cut)?),
                None => plan.forward = self.cut_pass(&self.forward, cut)?,
            },
            Direction::InputGrad => match &self.winograd_gradient {
                Some(pass) => plan.winograd_gradient = Some(self.cut_tiles(pass, cut)?),
                None => {
                    let cut = self.backward.iter().map(|pass| self.cut_pass(pass, cut));
                    plan.backward = cut.collect::<Option<Vec<Pass>>>()?;
                }
            },
            Direction::WeightGrad => match &self.winograd_weights {
                Some(weights) => {
                    let [blocks, _] = cut.factors();
                    plan.winograd_weights = Some(weights.scaled(blocks)?);
                }
                None => plan.cut_weights(cut)?,
            },
        }
        Some(plan)
    }

    fn unit(&self) -> usize {
        height_unit(self.isa.lanes())
    }

    /// Blocks in whole register tiles. Winograd's panels are shared out by the number of threads.
    fn cut_tiles(&self, pass: &WinogradPass, cut: Cut) -> Option<WinogradPass> {
        let (tiles, _) = cut.scaled(pass.block_tiles(), 1);
        pass.with_block_tiles(tiles.next_multiple_of(self.unit()))
    }

    /// More tasks change nothing where the panels are too few to be shared out further.
    fn cut_pass(&self, pass: &Pass, cut: Cut) -> Option<Pass> {
        let (rows, tasks_per_thread) = cut.scaled(pass.blocks.longest(), pass.tasks_per_thread);
        if rows == pass.blocks.longest() {
            let other = Pass { tasks_per_thread, ..pass.clone() };
            return (other.parts(1) != pass.parts(1)).then_some(other);
        }
        let blocks = pass.gather.blocks(rows, height(&pass.layout, self.isa.lanes()));
        // Where the panels are in the outer loop, a block is multiplied as a whole.
        let whole = pass.rows == pass.blocks.longest();
        let rows = if whole { blocks.longest() } else { pass.rows };
        (blocks.count != pass.blocks.count).then(|| Pass { blocks, rows, ..pass.clone() })
    }

    /// Changes the cut of the direct weight gradient, whose parts follow from chunks and threads.
    fn cut_weights(&mut self, cut: Cut) -> Option<()> {
        let unit = self.unit();
        let split = &mut self.weights;
        let (rows, chunks) = cut.scaled(split.blocks.longest(), split.chunks);
        let old = (split.blocks.count, split.chunks);
        if rows != split.blocks.longest() {
            split.blocks = split.gather.blocks(rows, unit);
        }
        split.chunks = chunks.clamp(1, split.blocks.count);
        (old != (split.blocks.count, split.chunks)).then_some(())
    }
}
