//! Batch norm's steps: statistics where nobody else makes them, coefficients, application, gradients.

use resnet_core::graph::{NodeId, TensorId};
use resnet_core::op::Op;

use super::{Joint, Lowering, NormSlots};
use crate::kernel::Rows;
use crate::plan::fuse::Residual as NodeResidual;
use crate::plan::{GradSums, NormGradient, Residual, Slot, Statistics, Work};

impl Lowering<'_> {
    /// The steps at a batch norm's own place: statistics if nobody made them, and coefficients.
    pub(super) fn norm_coefficients(&mut self, id: NodeId) {
        let node = self.get(id);
        let x = node.inputs[0];
        let c = self.channels(x);
        let [gamma, beta, mean, var] = [1, 2, 3, 4].map(|i| self.slot(node.inputs[i]));
        let coefficients = self.floats(2 * c);
        self.norms[id.0 as usize] = Some(NormSlots { coefficients });
        let (eps, momentum) = match node.op {
            Op::BatchNorm { eps, momentum } => (eps, momentum),
            Op::BatchNormInference { eps } => {
                let norm = [gamma, beta, mean, var];
                self.push(Work::NormCoefficients { eps, norm, coefficients });
                return;
            }
            _ => unreachable!("called for batch norms only"),
        };
        let rows = self.rows(x);
        let made = self.fusion.statistics_of[x.0 as usize] == Some(id);
        let partials = match self.partials[x.0 as usize] {
            Some(made_with_it) if made => made_with_it,
            _ => {
                let partials = self.floats(rows.partials_len(2));
                let (z, statistics) = (self.slot(x), Statistics { pivot: mean, partials });
                self.push(Work::NormStatistics { rows, z, statistics });
                partials
            }
        };
        let new_running = [self.running_out(id, 3, mean), self.running_out(id, 4, var)];
        let (batch_mean, rstd) = (self.out(node.outputs[1]), self.out(node.outputs[2]));
        self.push(Work::NormFinish {
            rows: rows.rows,
            eps,
            momentum,
            partials,
            gamma,
            beta,
            running: new_running,
            mean: batch_mean,
            rstd,
            coefficients,
        });
    }

    /// The place of a new running statistic, which starts as a copy of the old one.
    pub(super) fn running_out(&mut self, id: NodeId, output: usize, old: Slot) -> Slot {
        let new = self.out(self.get(id).outputs[output]);
        if new != old {
            self.push(Work::Store { x: old, y: new });
        }
        new
    }

    pub(super) fn normalize(
        &mut self,
        norm: NodeId,
        residual: NodeResidual,
        relu: bool,
        out: TensorId,
    ) {
        let x = self.get(norm).inputs[0];
        let z = self.slot(x);
        let y = self.out_over(x, out);
        if y != z {
            self.may_normalize_again(out, norm, residual, relu);
        }
        let work = self.norm_apply(norm, residual, relu, y);
        self.push(work);
    }

    /// The pass that applies a batch norm, what is added and a ReLU, and writes `y`.
    pub(super) fn norm_apply(
        &self,
        norm: NodeId,
        residual: NodeResidual,
        relu: bool,
        y: Slot,
    ) -> Work {
        let z = self.slot(self.get(norm).inputs[0]);
        let coefficients = self.coefficients(norm);
        let residual = match residual {
            NodeResidual::None => Residual::None,
            NodeResidual::Plain(tensor) => Residual::Plain(self.slot(tensor)),
            NodeResidual::Norm(other) => Residual::Norm {
                z: self.slot(self.get(other).inputs[0]),
                coefficients: self.coefficients(other),
            },
        };
        Work::NormApply { z, coefficients, residual, relu, y }
    }

    pub(super) fn coefficients(&self, norm: NodeId) -> Slot {
        self.norms[norm.0 as usize].expect("a batch norm stands before its group").coefficients
    }

    /// The sums of batch norm gradient `norm` over gradient tensor `g`, to be made with it.
    pub(super) fn grad_sums(&mut self, norm: NodeId, g: TensorId, floats: usize) -> GradSums {
        let partials = self.floats(floats);
        self.partials[g.0 as usize] = Some(partials);
        let inputs = &self.get(norm).inputs;
        GradSums { z: self.slot(inputs[1]), mean: self.slot(inputs[3]), partials }
    }

    pub(super) fn masked_grad(&mut self, dy: TensorId, mask: TensorId, out: TensorId) {
        let rows = self.rows(dy);
        let (from, mask) = (self.slot(dy), self.slot(mask));
        let sums = self.fusion.sums_of[out.0 as usize]
            .map(|norm| self.grad_sums(norm, out, rows.partials_len(2)));
        let g = self.out_over(dy, out);
        if sums.is_some() && g != from {
            // The pass that also sums works in place.
            self.push(Work::Store { x: from, y: g });
            self.push(Work::MaskedGrad { rows, dy: g, mask, g, sums });
        } else {
            self.push(Work::MaskedGrad { rows, dy: from, mask, g, sums });
        }
    }

    pub(super) fn norm_grad(&mut self, id: NodeId) {
        let node = self.get(id);
        let [dy, x] = [node.inputs[0], node.inputs[1]];
        let rows = self.rows(dy);
        let [gamma, mean, rstd] = [2, 3, 4].map(|i| self.slot(node.inputs[i]));
        let made = self.fusion.sums_of[dy.0 as usize] == Some(id);
        let partials = match self.partials[dy.0 as usize] {
            Some(made_with_it) if made => made_with_it,
            _ => self.own_sums(rows, dy, GradSums { z: self.slot(x), mean, partials: mean }),
        };
        self.finish_norm_grad(id, partials, (gamma, mean, rstd), false);
    }

    pub(super) fn own_sums(&mut self, rows: Rows, dy: TensorId, sums: GradSums) -> Slot {
        let partials = self.floats(rows.partials_len(2));
        let sums = GradSums { partials, ..sums };
        self.push(Work::GradSums { rows, dy: self.slot(dy), sums });
        partials
    }

    /// Gradients of a batch norm from its sums. A frozen one has constant statistics.
    pub(super) fn finish_norm_grad(
        &mut self,
        id: NodeId,
        partials: Slot,
        (gamma, mean, rstd): (Slot, Slot, Slot),
        frozen: bool,
    ) {
        let node = self.get(id);
        let [dy, x] = [node.inputs[0], node.inputs[1]];
        let rows = self.rows(dy).rows;
        let c = self.channels(dy);
        let (dgamma, dbeta) = (self.out(node.outputs[1]), self.out(node.outputs[2]));
        let coefficients = self.floats(3 * c);
        self.push(Work::NormGradFinish {
            rows,
            frozen,
            partials,
            gamma,
            rstd,
            dgamma,
            dbeta,
            coefficients,
        });
        let from = NormGradient { g: self.slot(dy), z: self.slot(x), mean, coefficients };
        if let Some(dw) = self.joint_weight_grad(node.outputs[0]) {
            self.joint.insert(node.outputs[0], Joint { dw, dy: from });
            return;
        }
        let dz = self.out_over(dy, node.outputs[0]);
        self.push(Work::NormGradApply { from, dz });
    }

    pub(super) fn frozen_norm_grad(&mut self, id: NodeId, eps: f64) {
        let node = self.get(id);
        let rows = self.rows(node.inputs[0]);
        let [x, gamma, mean, var] = [1, 2, 3, 4].map(|i| self.slot(node.inputs[i]));
        let rstd = self.floats(rows.channels);
        self.push(Work::RunningRstd { eps, var, rstd });
        let sums = GradSums { z: x, mean, partials: mean };
        let partials = self.own_sums(rows, node.inputs[0], sums);
        self.finish_norm_grad(id, partials, (gamma, mean, rstd), true);
    }
}
