//! Candidates: every way in which a convolution may be computed, and how long one takes.
//!
//! What a plan chose is the first of them; the others are what the rules allow besides: direct
//! arithmetic, Winograd's tiles, other cuts of the work. All compute the same within rounding.

use std::hint::black_box;
use std::iter::once;
use std::time::Instant;

use resnet_simd::{AlignedVec, Isa};

use crate::kernel::conv::{
    ConvPlan, Cut, Direction, Epilogue, GradientEpilogue, GradientSums, Statistics, Tiles,
    conv_forward, conv_input_gradient, conv_weight_gradient,
};
use crate::machine::Machine;
use crate::threads::ThreadPool;

pub use crate::plan::choose::Purpose;

/// One way to compute a direction of a convolution.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Winograd's tiles; none: direct.
    pub tiles: Option<Tiles>,
    /// How its work is cut, as a change of what the planner does.
    pub cut: Cut,
    /// The whole, ready to run.
    pub plan: ConvPlan,
}

/// What may compute a direction of a convolution for some purpose: the plan that was chosen first,
/// then all others that the rules allow.
pub fn candidates(chosen: &ConvPlan, direction: Direction, purpose: Purpose) -> Vec<Candidate> {
    let mut all = Vec::new();
    let mut add = |plan: &ConvPlan| {
        for cut in Cut::ALL {
            let cut_plan = if cut == Cut::Planned {
                Some(plan.clone())
            } else {
                plan.with_cut(direction, cut)
            };
            let tiles = plan.tiles(direction);
            all.extend(cut_plan.map(|plan| Candidate { tiles, cut, plan }));
        }
    };
    add(chosen);
    for tiles in once(None).chain(Tiles::ALL.map(Some)) {
        // The portable engine is the yardstick of the others: direct alone.
        let allowed = tiles.is_none_or(|tiles| {
            chosen.isa() != Isa::Portable && purpose.allows(chosen.shape(), direction, tiles)
        });
        if tiles == chosen.tiles(direction) || !allowed {
            continue;
        }
        // What does not fit is planned direct, and is no candidate of its own.
        if let Ok(plan) = ConvPlan::new(chosen.shape(), chosen.isa(), tiles, chosen.stored())
            && plan.tiles(direction) == tiles
        {
            add(&plan);
        }
    }
    all
}

/// Where a convolution's weights are when it begins. What the step before has just written is in the
/// caches, as far as it fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightsFrom {
    /// The cores' own caches, where the last run left them: a network that fits those as a whole.
    OwnCaches,
    /// The last cache: a network that fits that as a whole.
    LastCache,
    /// Memory: a larger one.
    Memory,
}

impl WeightsFrom {
    /// What holds for a network that touches so many bytes in a step, on so many threads.
    pub fn network_of(bytes: usize, threads: usize) -> WeightsFrom {
        let machine = Machine::detect();
        if bytes <= threads * machine.own_cache_bytes() {
            WeightsFrom::OwnCaches
        } else if bytes <= machine.last_cache_bytes() {
            WeightsFrom::LastCache
        } else {
            WeightsFrom::Memory
        }
    }

    /// Bytes that are read to displace everything else from the caches before those.
    fn displaced_by(self, threads: usize) -> usize {
        let machine = Machine::detect();
        match self {
            WeightsFrom::OwnCaches => 0,
            WeightsFrom::LastCache => 3 * threads * machine.own_cache_bytes(),
            WeightsFrom::Memory => 2 * machine.last_cache_bytes(),
        }
    }
}

/// Seconds of a sample, at least, where all stays in a core's own caches: a kernel of microseconds runs many times.
const SAMPLE_SECONDS: f64 = 3e-4;
/// Floats that a task reads.
const PART: usize = 1 << 16;

/// Operands for any convolution, kept from one to the next.
pub struct Workbench {
    pool: ThreadPool,
    purpose: Purpose,
    /// Read to displace weights from the caches; nothing where they are to stay.
    other: AlignedVec<f32>,
    x: Operand,
    y: Operand,
    dx: Operand,
    packed: Operand,
    transposed: Operand,
    transformed: Operand,
    gradient: Operand,
    channels: Operand,
    partials: Operand,
    scratch: Operand,
}

impl Workbench {
    /// A bench for so many threads.
    pub fn new(threads: usize, purpose: Purpose, weights: WeightsFrom) -> Workbench {
        let other = weights.displaced_by(threads) / size_of::<f32>();
        let operand = || Operand(AlignedVec::zeroed(0));
        Workbench {
            pool: ThreadPool::new(threads),
            purpose,
            other: AlignedVec::zeroed(other),
            x: operand(),
            y: operand(),
            dx: operand(),
            packed: operand(),
            transposed: operand(),
            transformed: operand(),
            gradient: operand(),
            channels: operand(),
            partials: operand(),
            scratch: operand(),
        }
    }

    /// Seconds that a plan takes for one direction, with the epilogue that it has most often, and
    /// in training with the transform of its weights.
    pub fn seconds(&mut self, plan: &ConvPlan, direction: Direction) -> f64 {
        let shape = plan.shape();
        let (x_len, y_len) = (shape.input_len(), shape.output_len());
        if self.other.is_empty() {
            self.run(plan, direction);
            let (start, mut runs) = (Instant::now(), 0);
            while start.elapsed().as_secs_f64() < SAMPLE_SECONDS {
                self.run(plan, direction);
                runs += 1;
            }
            return start.elapsed().as_secs_f64() / f64::from(runs);
        }
        touch(&self.pool, &self.other);
        match direction {
            Direction::Forward => touch(&self.pool, self.x.take(x_len)),
            Direction::InputGrad | Direction::WeightGrad => touch(&self.pool, self.y.take(y_len)),
        }
        // Growing operands is not part of the time: they have their size after the first run.
        let start = Instant::now();
        self.run(plan, direction);
        start.elapsed().as_secs_f64()
    }

    fn run(&mut self, plan: &ConvPlan, direction: Direction) {
        match direction {
            Direction::Forward => self.forward(plan),
            Direction::InputGrad => self.input_gradient(plan),
            Direction::WeightGrad => self.weight_gradient(plan),
        }
    }

    fn forward(&mut self, plan: &ConvPlan) {
        let (shape, pool) = (plan.shape(), &self.pool);
        let trains = self.purpose == Purpose::Training;
        let mut w = self.packed.take(plan.layout().len());
        if plan.transforms_forward() {
            let u = self.transformed.take(plan.forward_weights_len());
            if trains {
                plan.transform_forward(pool, w, u);
            }
            w = u;
        }
        let channels = &*self.channels.take(shape.cout);
        let mut epilogue = Epilogue::default();
        if trains {
            let partials = self.partials.take(plan.forward_chunks() * 2 * shape.cout);
            epilogue.statistics = Some(Statistics { pivot: channels, partials });
        } else {
            (epilogue.bias, epilogue.relu) = (Some(channels), true);
        }
        let x = self.x.take(shape.input_len());
        let y = self.y.take(shape.output_len());
        let scratch = self.scratch.take(plan.forward_scratch_len(pool.threads()));
        conv_forward(plan, pool, x, w, epilogue, y, scratch);
    }

    fn input_gradient(&mut self, plan: &ConvPlan) {
        let (shape, pool) = (plan.shape(), &self.pool);
        let packed = self.packed.take(plan.layout().len());
        let mut w = self.transposed.take(plan.transposed_layout().len());
        plan.layout().transpose(pool, packed, w);
        if plan.transforms_gradient() {
            let u = self.transformed.take(plan.gradient_weights_len());
            plan.transform_gradient(pool, w, u);
            w = u;
        }
        let x = &*self.x.take(shape.input_len());
        let sums = GradientSums {
            z: x,
            mean: self.channels.take(shape.cin),
            partials: self.partials.take(plan.gradient_chunks() * 2 * shape.cin),
        };
        let epilogue = GradientEpilogue { mask: Some(x), sums: Some(sums), ..Default::default() };
        let (dy, dx) = (self.y.take(shape.output_len()), self.dx.take(shape.input_len()));
        let scratch = self.scratch.take(plan.gradient_scratch_len(pool.threads()));
        conv_input_gradient(plan, pool, dy, w, epilogue, dx, scratch);
    }

    fn weight_gradient(&mut self, plan: &ConvPlan) {
        let (shape, pool) = (plan.shape(), &self.pool);
        let (x, dy) = (self.x.take(shape.input_len()), self.y.take(shape.output_len()));
        let dw = self.gradient.take(plan.layout().len());
        let scratch = self.scratch.take(plan.weight_gradient_scratch_len(pool.threads()));
        conv_weight_gradient(plan, pool, x, dy, dw, scratch);
    }
}

/// Floats of which the first so many are taken, grown as needed.
struct Operand(AlignedVec<f32>);

impl Operand {
    fn take(&mut self, len: usize) -> &mut [f32] {
        if self.0.len() < len {
            self.0 = AlignedVec::zeroed(len);
            // Small numbers of both signs, so that nothing overflows or becomes denormal.
            let fill = |(i, v): (usize, &mut f32)| *v = ((i % 13) as f32 - 6.0) / 64.0;
            self.0.iter_mut().enumerate().for_each(fill);
        }
        &mut self.0[..len]
    }
}

/// Reads a float of each cache line.
fn touch(pool: &ThreadPool, x: &[f32]) {
    pool.run(x.len().div_ceil(PART), &|part| {
        let part = &x[part * PART..x.len().min((part + 1) * PART)];
        black_box(part.iter().step_by(16).sum::<f32>());
    });
}

#[cfg(test)]
mod tests {
    use resnet_simd::Stored;

    use super::*;
    use crate::kernel::conv::ConvShape;

    fn plan(kernel: usize, stride: usize, isa: Isa, tiles: Option<Tiles>) -> ConvPlan {
        let shape = ConvShape::new((2, 14, 14, 32), 48, kernel, stride, kernel / 2);
        ConvPlan::new(&shape, isa, tiles, Stored::F32).unwrap()
    }

    fn algorithms(plan: &ConvPlan, direction: Direction, purpose: Purpose) -> Vec<Option<Tiles>> {
        let mut tiles: Vec<_> =
            candidates(plan, direction, purpose).iter().map(|candidate| candidate.tiles).collect();
        tiles.dedup();
        tiles
    }

    #[test]
    fn the_choice_comes_first_and_the_purpose_says_what_else_there_is() {
        let (two, four) = (Some(Tiles::Two), Some(Tiles::Four));
        let plan = plan(3, 1, Isa::detect(), two);
        let forward = Direction::Forward;
        if Isa::detect() != Isa::Portable {
            assert_eq!(algorithms(&plan, forward, Purpose::Training), [two, None]);
            assert_eq!(algorithms(&plan, forward, Purpose::Inference), [two, None, four]);
        }
        let direct = self::plan(3, 1, Isa::detect(), None);
        assert_eq!(algorithms(&direct, forward, Purpose::Exact), [None]);
    }

    #[test]
    fn every_small_picture_of_stride_one_has_three_candidates() {
        for isa in Isa::available() {
            for direction in [Direction::Forward, Direction::InputGrad, Direction::WeightGrad] {
                let plan = plan(3, 1, isa, None);
                let found = candidates(&plan, direction, Purpose::Training);
                assert!(3 <= found.len(), "{} {direction:?}: {}", isa.name(), found.len());
                assert_eq!(found[0].cut, Cut::Planned);
            }
        }
    }

    /// Largest deviation between cuts, relative to the largest value: sums in another order.
    const LIMIT: f32 = 1e-5;

    #[test]
    fn every_candidate_computes_the_same() {
        for isa in Isa::available() {
            for (kernel, stride) in [(1, 1), (3, 1), (3, 2)] {
                let chosen = plan(kernel, stride, isa, None);
                for direction in [Direction::Forward, Direction::InputGrad, Direction::WeightGrad] {
                    same(&chosen, direction);
                }
            }
        }
    }

    #[track_caller]
    fn same(chosen: &ConvPlan, direction: Direction) {
        let mut bench = Workbench::new(2, Purpose::Training, WeightsFrom::OwnCaches);
        let shape = *chosen.shape();
        let mut output = |plan: &ConvPlan| {
            bench.y = Operand(AlignedVec::zeroed(0));
            bench.run(plan, direction);
            match direction {
                Direction::Forward => bench.y.take(shape.output_len()).to_vec(),
                Direction::InputGrad => bench.dx.take(shape.input_len()).to_vec(),
                Direction::WeightGrad => bench.gradient.take(plan.layout().len()).to_vec(),
            }
        };
        let expected = output(chosen);
        let largest = expected.iter().fold(0.0_f32, |a, x| a.max(x.abs()));
        for candidate in candidates(chosen, direction, Purpose::Training) {
            let found = output(&candidate.plan);
            let far = found.iter().zip(&expected).map(|(x, y)| (x - y).abs());
            let far = far.fold(0.0_f32, f32::max) / largest;
            assert!(far <= LIMIT, "{direction:?} {:?} {:?}: {far}", candidate.tiles, candidate.cut);
        }
    }

    #[test]
    fn a_candidate_takes_time_wherever_weights_are() {
        let plan = plan(3, 1, Isa::detect(), None);
        for weights in [WeightsFrom::OwnCaches, WeightsFrom::LastCache, WeightsFrom::Memory] {
            let mut bench = Workbench::new(2, Purpose::Inference, weights);
            assert!(0.0 < bench.seconds(&plan, Direction::Forward));
        }
    }

    #[test]
    fn weights_are_where_a_network_of_that_size_has_them() {
        let machine = Machine::detect();
        let (own, last) = (machine.own_cache_bytes(), machine.last_cache_bytes());
        assert_eq!(WeightsFrom::network_of(2 * own, 2), WeightsFrom::OwnCaches);
        assert_eq!(WeightsFrom::network_of(last + 1, 1), WeightsFrom::Memory);
        if 2 * own < last {
            assert_eq!(WeightsFrom::network_of(2 * own + 1, 2), WeightsFrom::LastCache);
        }
    }
}
