//! CPU features as tokens, vector types and aligned buffers.
