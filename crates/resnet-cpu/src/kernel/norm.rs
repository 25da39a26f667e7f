//! Batch norm, cut into the pieces that a plan fuses: sums, finishing, applying, and their gradients.
//!
//! Forward, over the `m = n * h * w` values `z` of a channel (Ioffe and Szegedy 2015,
//! arXiv:1502.03167, algorithm 1; PyTorch's `BatchNorm2d`):
//!
//! ```text
//! mean = sum(z) / m     var = sum((z - mean)^2) / m     rstd = 1 / sqrt(var + eps)
//! y = gamma * (z - mean) * rstd + beta = scale * z + shift
//! ```
//!
//! Backward, for the gradient `g` by `y`:
//!
//! ```text
//! dbeta = sum(g)     dgamma = rstd * sum(g * (z - mean))
//! dz = gamma * rstd * (g - dbeta / m - (z - mean) * rstd * dgamma / m) = a * g + b * (z - mean) + c
//! ```

pub use apply::{Activation, Affine, Join, apply};
pub use backward::{
    Centred, Coefficients, Gradients, InputGradient, Mask, Sums, grad_apply, grad_finish,
    grad_finish_frozen, grad_mask_sums, grad_mask_sums_pair, grad_sums,
};
pub use statistics::{BatchStats, Parameters, Running, affine_of_running, finish, statistics};

mod apply;
mod backward;
mod statistics;
