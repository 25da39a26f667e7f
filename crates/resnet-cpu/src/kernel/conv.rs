//! Two-dimensional convolution and its gradients, in f32, of activations stored in f32 or bf16.
//!
//! ```text
//! y [n,oy,ox,co] = Σ_ky,kx,ci x[n, oy·stride + ky·dilation − pad, ox·stride + kx·dilation − pad, ci] · w[co,ci,ky,kx]
//! dx[n,iy,ix,ci] = Σ_ky,kx,co dy[n,oy,ox,co] · w[co,ci,ky,kx]     over all (oy,ky), (ox,kx) that meet (iy,ix)
//! dw[co,ci,ky,kx] = Σ_n,oy,ox x[n, iy, ix, ci] · dy[n,oy,ox,co]
//! ```
//!
//! Outside the picture `x` is zero. Activations are NHWC; weights are OIHW at the border and live in
//! packed panels ([`PackedLayout`]) inside. A linear layer is a 1x1 convolution of a 1x1 picture.
//!
//! How: a tile of outputs (rows of pixels times a panel of channels) stays in registers while the
//! whole reduction runs, over *pointers* to the rows of `x` that the taps touch; padding is a pointer
//! to zeros. Nothing is unfolded in memory. The input gradient is the same product with transposed
//! weights, one for each residue class of the stride, so that no zero is multiplied.
//!
//! What results depend on: each element of `y` and `dx` is one chain of multiply-adds in the order
//! (tap, channel), or, in the last eight of some channels on vectors of 16, the sum of two such chains
//! (`tile.rs`): the same bits for any tile shape, number of threads and batch. Sums over pixels
//! (`dw`, statistics) are cut into chunks by geometry and instruction set, and reduced in order.

mod cut;
mod epilogue;
mod gather;
mod gradients;
mod layout;
mod pairs;
mod plan;
mod product;
mod scalar;
mod shape;
mod statistics;
mod tile;
mod weight_gradient;
mod winograd;
mod winograd_block;
mod winograd_few;
mod winograd_fold;
mod winograd_fold_block;
mod winograd_transform;
mod winograd_weights;

pub use cut::{Cut, Direction};
pub use epilogue::{Epilogue, GradientEpilogue, GradientSums, Statistics};
pub use gradients::conv_norm_gradients;
pub use layout::PackedLayout;
pub use plan::{ConvPlan, UnsupportedConv};
pub use product::{conv_forward, conv_input_gradient};
pub use scalar::{conv_forward_scalar, conv_input_gradient_scalar, conv_weight_gradient_scalar};
pub use shape::ConvShape;
pub use statistics::{bias_gradient, combine_statistics};
pub use weight_gradient::conv_weight_gradient;
pub use winograd_transform::Tiles;
